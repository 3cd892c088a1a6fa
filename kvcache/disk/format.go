package disk

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"time"
)

// Sizes of the parts of a file; see the drawing in the package's comment.
const (
	fileHeaderBytes = 32                               // of a segment and of its index
	headerBytes     = openBytes + metaBytes + tagBytes // of a record: what anyone can read, the sealed rest
	openBytes       = 32
	metaBytes       = 88
	tagBytes        = 16 // of AES-GCM
	overheadBytes   = headerBytes + tagBytes
	slotBytes       = 160 // of a record in an index

	maxDataBytes = 1 << 30
)

// The first bytes of files and records. Their last character is the version of the format.
var (
	segmentMagic = [8]byte{'h', 'e', 'a', 'r', 't', 'h', 's', '1'}
	indexMagic   = [8]byte{'h', 'e', 'a', 'r', 't', 'h', 'i', '1'}
	recordMagic  = [4]byte{'h', 'k', 'v', '1'}
	erasingMagic = [4]byte{'h', 'k', 'e', '1'} // what follows is about to be overwritten
	erasedMagic  = [4]byte{'h', 'k', 'x', '1'} // what follows is nothing
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errFormat says that bytes are no header.
var errFormat = errors.New("kvcache/disk: not a record")

// header is the beginning of a record as it is stored. It is authentic only once its tenant's cipher opens it.
type header [headerBytes]byte

// meta is what a header seals.
type meta struct {
	key, parent Key
	kind        Kind
	tokens      int
	recompute   time.Duration
	rank        float64 // see ranking, when it was written
}

func (h *header) magic() [4]byte     { return [4]byte(h[0:4]) }
func (h *header) tenant() tenantID   { return tenantID(h[4:12]) }
func (h *header) dataBytes() int     { return int(binary.LittleEndian.Uint32(h[12:16])) }
func (h *header) nonce() []byte      { return h[16:28] }
func (h *header) recordBytes() int64 { return int64(h.dataBytes()) + overheadBytes }

func (h *header) checksum() uint32 { return crc32.Update(checksum(h[:28]), castagnoli, h[openBytes:]) }

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// check tells a header from anything else; that it is authentic it cannot tell.
func (h *header) check() error {
	switch m := h.magic(); {
	case m != recordMagic && m != erasingMagic && m != erasedMagic,
		m != erasedMagic && h.dataBytes() > maxDataBytes,
		binary.LittleEndian.Uint32(h[28:32]) != h.checksum():
		return errFormat
	}
	return nil
}

// seal fills the header of a record with n bytes of data.
func (h *header) seal(t *tenant, m meta, n int) {
	*h = header{}
	copy(h[0:4], recordMagic[:])
	copy(h[4:12], t.id[:])
	binary.LittleEndian.PutUint32(h[12:16], uint32(n))
	rand.Read(h[16:28])
	var plain [metaBytes]byte
	copy(plain[0:32], m.key[:])
	copy(plain[32:64], m.parent[:])
	plain[64] = byte(m.kind)
	binary.LittleEndian.PutUint32(plain[68:72], uint32(m.tokens))
	binary.LittleEndian.PutUint64(plain[72:80], uint64(m.recompute))
	binary.LittleEndian.PutUint64(plain[80:88], math.Float64bits(m.rank))
	t.meta.Seal(h[openBytes:openBytes], h.nonce(), plain[:], h[:28])
	binary.LittleEndian.PutUint32(h[28:32], h.checksum())
}

// open returns what the tenant sealed. It uses plain as memory.
func (h *header) open(t *tenant, plain *[metaBytes]byte) (meta, error) {
	if _, err := t.meta.Open(plain[:0], h.nonce(), h[openBytes:], h[:28]); err != nil {
		return meta{}, errFormat
	}
	m := meta{
		key: Key(plain[0:32]), parent: Key(plain[32:64]), kind: Kind(plain[64]),
		tokens:    int(binary.LittleEndian.Uint32(plain[68:72])),
		recompute: time.Duration(binary.LittleEndian.Uint64(plain[72:80])),
		rank:      math.Float64frombits(binary.LittleEndian.Uint64(plain[80:88])),
	}
	if m.kind > State || m.recompute < 0 || !sensible(m.rank) {
		return meta{}, errFormat
	}
	return m, nil
}

// mark makes the header that of n bytes, all overheads included, of which nobody needs anything.
func (h *header) mark(magic [4]byte, n int64) {
	*h = header{}
	copy(h[0:4], magic[:])
	binary.LittleEndian.PutUint32(h[12:16], uint32(n-overheadBytes))
	binary.LittleEndian.PutUint32(h[28:32], h.checksum())
}

// sealRecord appends a whole record to b.
func sealRecord(b []byte, t *tenant, m meta, data []byte) []byte {
	var h header
	h.seal(t, m, len(data))
	return t.data.Seal(append(b, h[:]...), h.nonce(), data, h[:])
}

// openRecord decrypts a whole record into dst, which has room, and tells what it is. Whatever is not exactly what the
// tenant sealed is errFormat. It uses plain as memory.
func openRecord(record []byte, t *tenant, plain *[metaBytes]byte, dst []byte) (meta, error) {
	if len(record) < overheadBytes {
		return meta{}, errFormat
	}
	h := (*header)(record)
	if h.check() != nil || h.magic() != recordMagic || h.recordBytes() != int64(len(record)) || h.tenant() != t.id {
		return meta{}, errFormat
	}
	m, err := h.open(t, plain)
	if err != nil {
		return meta{}, err
	}
	if _, err := t.data.Open(dst[:0], h.nonce(), record[headerBytes:], h[:]); err != nil {
		return meta{}, errFormat
	}
	return m, nil
}

// sensible reports whether a rank is one.
func sensible(rank float64) bool { return rank >= 0 && rank <= math.MaxFloat64 }

// fileHeader returns the beginning of a segment, or of its index, which share the id.
func fileHeader(magic [8]byte, id [16]byte) (h [fileHeaderBytes]byte) {
	copy(h[0:8], magic[:])
	copy(h[8:24], id[:])
	binary.LittleEndian.PutUint32(h[28:32], checksum(h[:28]))
	return h
}

// slot is a record as an index has it: where it begins, its header, and its rank, which alone may change.
type slot [slotBytes]byte

func newSlot(offset int64, h *header, rank float64) *slot {
	var s slot
	binary.LittleEndian.PutUint64(s[0:8], uint64(offset))
	copy(s[8:8+headerBytes], h[:])
	s.sum()
	s.setRank(rank)
	return &s
}

func (s *slot) offset() int64   { return int64(binary.LittleEndian.Uint64(s[0:8])) }
func (s *slot) header() *header { return (*header)(s[8:]) }
func (s *slot) rank() float64   { return math.Float64frombits(binary.LittleEndian.Uint64(s[152:160])) }

func (s *slot) setRank(rank float64) {
	binary.LittleEndian.PutUint64(s[152:160], math.Float64bits(rank))
}

func (s *slot) sum() {
	binary.LittleEndian.PutUint32(s[144:148], checksum(s[:8+headerBytes]))
}

func (s *slot) check() error {
	if binary.LittleEndian.Uint32(s[144:148]) != checksum(s[:8+headerBytes]) || s.header().check() != nil || s.offset() < 0 {
		return errFormat
	}
	return nil
}
