package engine

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"hash/crc32"

	"hearth/hardware"
	"hearth/kvcache"
)

// cacheVersion is part of every fingerprint. It grows when what blocks hold changes without anything else that the
// fingerprint names.
const cacheVersion = 1

// fingerprint names everything that the bytes of cache blocks and states depend on beside the tokens: the program, the
// weights, the format of the cache, and how the device lays them out.
//
// Large weights are looked at in places. So the weights of a model that was trained on, merged or quantized differently are
// others; one of which a few rows were edited by hand may be taken for the same.
func fingerprint(p *hardware.Program, info hardware.Info, limits hardware.Limits, memory hardware.Memory) (string, error) {
	sum := sha256.New()
	w := bufio.NewWriterSize(sum, 1<<16)
	fmt.Fprintf(w, "hearth cache %d\n%s\n%s %d %d %d\n", cacheVersion, info.LayoutID, limits.KV, hardware.BlockLen, memory.Block, memory.Snapshot)
	if err := p.Describe(w); err != nil {
		return "", err
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	for i := range p.NumWeights() {
		crc := crc32.New(table)
		if err := sumWeight(crc, p.WeightAt(i)); err != nil {
			return "", err
		}
		fmt.Fprintf(w, "%08x\n", crc.Sum32())
	}
	if err := w.Flush(); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// A weight of at most wholeWeight bytes is looked at wholly, a larger one, or one that must be converted to be read, in so
// many places.
const (
	wholeWeight  = 4 << 20
	weightPlaces = 64
)

// sumWeight adds the rows of a weight to a checksum. A program without data, as tests have it, adds nothing.
func sumWeight(sum hash.Hash32, w *hardware.WeightInfo) error {
	if !w.HasData() {
		return nil
	}
	matrices := max(1, w.Experts)
	all := matrices * w.Out
	run, step := all, all // rows
	if w.Read != nil || w.Bytes() > wholeWeight {
		step = max(1, all/weightPlaces)
		if run = 1; w.Read == nil {
			run = max(1, min(step, wholeWeight/weightPlaces/max(1, w.Bytes()/all)))
		}
	}
	var buf []byte
	for row := 0; row < all; row += step {
		for first, last := row, min(row+run, all); first < last; {
			expert := first / w.Out
			end := min(last, (expert+1)*w.Out)
			rows, err := w.Rows(buf, expert, first-expert*w.Out, end-expert*w.Out)
			if err != nil {
				return fmt.Errorf("engine: weight %q: %w", w.Name, err)
			}
			sum.Write(rows)
			if w.Read != nil {
				buf = rows
			}
			first = end
		}
	}
	return nil
}

// originOf returns where the prefixes of a tenant begin on disk.
//
//	root    SHA-256("hearth cache" 0 | fingerprint | 0 | tenant)
func originOf(fingerprint, tenant string) *kvcache.Origin {
	return &kvcache.Origin{Tenant: tenant, Root: sha256.Sum256([]byte("hearth cache\x00" + fingerprint + "\x00" + tenant))}
}
