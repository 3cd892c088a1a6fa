package disk

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"time"
)

// Sizes of the parts of a file; see the drawing in the package's comment.
const (
	segmentHeaderBytes = 32
	headerBytes        = openBytes + metaBytes + tagBytes // of a record: what anyone can read, the sealed rest
	openBytes          = 32
	metaBytes          = 88
	tagBytes           = 16 // of AES-GCM
	overheadBytes      = headerBytes + tagBytes
	nonceBytes         = 12

	maxDataBytes = 1 << 30
)

// The first bytes of files and records. Their last character is the version of the format.
var (
	segmentMagic = [8]byte{'h', 'e', 'a', 'r', 't', 'h', 's', '1'}
	recordMagic  = [4]byte{'h', 'k', 'v', '1'}
	erasedMagic  = [4]byte{'h', 'k', 'x', '1'}
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

func (h *header) erased() bool       { return bytes.Equal(h[0:4], erasedMagic[:]) }
func (h *header) tenant() tenantID   { return tenantID(h[4:12]) }
func (h *header) dataBytes() int     { return int(binary.LittleEndian.Uint32(h[12:16])) }
func (h *header) nonce() []byte      { return h[16:28] }
func (h *header) recordBytes() int64 { return int64(h.dataBytes()) + overheadBytes }

func (h *header) checksum() uint32 { return crc32.Update(checksum(h[:28]), castagnoli, h[openBytes:]) }

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// check tells a header from anything else; that it is authentic it cannot tell.
func (h *header) check() error {
	if !bytes.Equal(h[0:4], recordMagic[:]) && !h.erased() || h.dataBytes() > maxDataBytes ||
		binary.LittleEndian.Uint32(h[28:32]) != h.checksum() {
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

// open returns what the tenant sealed.
func (h *header) open(t *tenant) (meta, error) {
	var plain [metaBytes]byte
	if _, err := t.meta.Open(plain[:0], h.nonce(), h[openBytes:], h[:28]); err != nil {
		return meta{}, errFormat
	}
	m := meta{
		key: Key(plain[0:32]), parent: Key(plain[32:64]), kind: Kind(plain[64]),
		tokens:    int(binary.LittleEndian.Uint32(plain[68:72])),
		recompute: time.Duration(binary.LittleEndian.Uint64(plain[72:80])),
		rank:      math.Float64frombits(binary.LittleEndian.Uint64(plain[80:88])),
	}
	if m.kind > State || m.recompute < 0 || !(m.rank >= 0 && m.rank <= math.MaxFloat64) {
		return meta{}, errFormat
	}
	return m, nil
}

// erase turns the header into that of a record that is no more, of the same length.
func (h *header) erase() {
	n := binary.LittleEndian.Uint32(h[12:16])
	*h = header{}
	copy(h[0:4], erasedMagic[:])
	binary.LittleEndian.PutUint32(h[12:16], n)
	binary.LittleEndian.PutUint32(h[28:32], h.checksum())
}

// sealRecord appends a whole record to b.
func sealRecord(b []byte, t *tenant, m meta, data []byte) []byte {
	var h header
	h.seal(t, m, len(data))
	return t.data.Seal(append(b, h[:]...), h.nonce(), data, h[:])
}

// openRecord decrypts a whole record into dst, which has room, and tells what it is. Whatever is not exactly what the
// tenant sealed is errFormat.
func openRecord(record []byte, t *tenant, dst []byte) (meta, error) {
	if len(record) < overheadBytes {
		return meta{}, errFormat
	}
	h := (*header)(record)
	if h.check() != nil || h.erased() || h.recordBytes() != int64(len(record)) || h.tenant() != t.id {
		return meta{}, errFormat
	}
	m, err := h.open(t)
	if err != nil {
		return meta{}, err
	}
	if _, err := t.data.Open(dst[:0], h.nonce(), record[headerBytes:], h[:]); err != nil {
		return meta{}, errFormat
	}
	return m, nil
}
