package cpu

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"unsafe"
)

// packer packs all weights with a few goroutines, each of which takes piece after piece of the work list. A piece is
// given back as soon as it is packed, so that of a mapped file little more than that is ever in memory.
type packer struct {
	pieces   []piece
	allBytes int64
	next     atomic.Int64 // piece
	packed   chan int     // bytes of each piece that is done; closed by packWeights when the goroutines have ended
}

// piece is some panels of one expert's matrix, or a vector.
type piece struct {
	weight        *weight
	expert        int
	panel, panels int // the first and their number; none for a vector
}

// pieceBytes is about the size of a piece in the file: long enough that giving it back costs little beside packing it,
// and short enough that whoever cancels does not wait.
const pieceBytes = 1 << 20

// progressBytes is how often at least progress is reported, when a hundredth of all is more.
const progressBytes = 64 << 20

// packWeights packs every weight and returns when that is done or ctx ends. It calls progress itself.
func packWeights(ctx context.Context, weights []*weight, threads int, progress func(done, total int64)) error {
	p := &packer{packed: make(chan int, threads)}
	for _, w := range weights {
		if (w.isMatrix || w.isVector) && !w.info.HasData() {
			return fmt.Errorf("cpu: weight %q has no data", w.info.Name)
		}
		p.add(w)
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var group sync.WaitGroup
	for range min(threads, len(p.pieces)) {
		group.Go(func() { p.work(ctx, fail) })
	}
	go func() {
		group.Wait()
		close(p.packed)
	}()
	p.report(progress)
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("cpu: packing weights: %w", err)
	}
	return nil
}

// add puts a weight's pieces on the list.
func (p *packer) add(w *weight) {
	if w.isVector {
		p.pieces = append(p.pieces, piece{weight: w})
	}
	if w.isMatrix {
		panels := max(1, pieceBytes/(panelCols*w.rowBytes()))
		for expert := range w.experts {
			for first := 0; first < w.numPanels; first += panels {
				p.pieces = append(p.pieces, piece{w, expert, first, min(panels, w.numPanels-first)})
			}
		}
	}
	p.allBytes += int64(w.info.Bytes())
}

// work packs pieces until there are none left, ctx ends, or one cannot be read.
func (p *packer) work(ctx context.Context, fail context.CancelCauseFunc) {
	debug.SetPanicOnFault(true) // for this goroutine
	var buf []byte              // for the rows of weights that their file keeps in another form
	for ctx.Err() == nil {
		i := int(p.next.Add(1)) - 1
		if i >= len(p.pieces) {
			return
		}
		src, err := p.pieces[i].rows(buf)
		if p.pieces[i].weight.info.Read != nil {
			buf = src
		}
		if err == nil {
			err = p.pieces[i].pack(src)
		}
		if err != nil {
			fail(err)
			return
		}
		p.packed <- p.pieces[i].bytes(src)
	}
}

// rows returns the rows that the piece is made of, as the weight's format has them; buf is for those to be read.
func (p *piece) rows(buf []byte) ([]byte, error) {
	w := p.weight
	first, last := 0, w.out
	if p.panels > 0 {
		first, last = p.panel*panelCols, min((p.panel+p.panels)*panelCols, w.out)
	}
	src, err := w.info.Rows(buf, p.expert, first, last)
	if err != nil {
		return src, fmt.Errorf("weight %q: %w", w.info.Name, err)
	}
	return src, nil
}

// bytes is what a piece counts of its weight. A vector that is a matrix too is counted with its panels.
func (p *piece) bytes(src []byte) int {
	if p.panels == 0 && p.weight.isMatrix {
		return 0
	}
	return len(src)
}

// pack packs the piece. It fails when its rows cannot be read: the file that is mapped was cut off meanwhile, or its disk
// is broken.
func (p *piece) pack(src []byte) (err error) {
	w := p.weight
	defer func() {
		if fault := recover(); fault != nil {
			if !faultIn(fault, src) {
				panic(fault)
			}
			err = fmt.Errorf("weight %q: its bytes can no longer be read from the file", w.info.Name)
		}
	}()
	if p.panels == 0 {
		w.unpack(src)
	}
	size := panelCols * w.rowBytes()
	for panel := range p.panels {
		w.packPanel(p.expert, p.panel+panel, src[panel*size:min((panel+1)*size, len(src))])
	}
	if w.info.Release != nil {
		w.info.Release(src)
	}
	return nil
}

// faultIn reports whether a panic is a fault of memory at one of the bytes.
func faultIn(fault any, bytes []byte) bool {
	at, ok := fault.(interface{ Addr() uintptr })
	if !ok || len(bytes) == 0 {
		return false
	}
	first := uintptr(unsafe.Pointer(&bytes[0]))
	return at.Addr() >= first && at.Addr()-first < uintptr(len(bytes))
}

// report adds packed bytes up until all goroutines have ended, and calls progress now and then.
func (p *packer) report(progress func(doneBytes, totalBytes int64)) {
	var done, reported int64
	for bytes := range p.packed {
		done += int64(bytes)
		if progress != nil && (done-reported > min(p.allBytes/100, progressBytes) || done == p.allBytes) {
			reported = done
			progress(done, p.allBytes)
		}
	}
}
