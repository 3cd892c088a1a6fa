package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// damaged is a small folder, to be damaged.
type damaged map[string][]byte

func newDamaged(t *testing.T) damaged {
	t.Helper()
	files := newTestFiles()
	s := open(t, Options{Dir: "cache", MaxBytes: 64 << 10, files: files})
	for i := range 4 {
		put(t, s, "a", i, 30+i)
		put(t, s, "b", i, 30+i)
	}
	if err := s.Remove("a", []Key{key(2)}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	d := damaged{}
	for _, name := range []string{segmentName, indexName, tenantsName, "key"} {
		d[name] = files.read(filepath.Join("cache", name))
	}
	return d
}

const (
	segmentName = "0000000000000001.segment"
	indexName   = "0000000000000001.index"
)

// open opens a copy of the folder in which one file has other bytes.
func (d damaged) open(t *testing.T, other string, with []byte) *Store {
	t.Helper()
	files := newTestFiles()
	for name, b := range d {
		if name == other {
			b = with
		}
		files.write(filepath.Join("cache", name), b)
	}
	s, err := Open(Options{Dir: "cache", MaxBytes: 64 << 10, files: files})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// look reads everything: what is there must be right. It returns how many records are, and uses the store further.
func (d damaged) look(t *testing.T, s *Store) (found int) {
	t.Helper()
	var dst [100]byte
	for i := range 4 {
		for _, tenant := range []string{"a", "b"} {
			n, err := s.Read(tenant, key(i), Block, dst[:])
			switch {
			case err == nil && bytes.Equal(dst[:n], data(i, 30+i)) && (i != 2 || tenant != "a"):
				found++
			case !errors.Is(err, ErrMissing):
				t.Fatalf("record %d of %s: %x, error %v", i, tenant, dst[:n], err)
			}
		}
	}
	put(t, s, "a", 9, 50)
	flush(t, s)
	wantRecord(t, s, "a", 9, 50)
	s.check(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return found
}

// TestFlippedBits changes every byte of every file. What it costs at most: an index nothing at all, a record itself, the
// head of a segment all, and a tenant's slot what that tenant has.
func TestFlippedBits(t *testing.T) {
	d := newDamaged(t)
	least := map[string]int{segmentName: 0, indexName: 6, tenantsName: 3}
	for _, name := range []string{segmentName, indexName, tenantsName} {
		whole := d[name]
		for at := range whole {
			with := bytes.Clone(whole)
			with[at] ^= 1 << (at % 8)
			n := d.look(t, d.open(t, name, with))
			want := least[name]
			if name == segmentName && at >= fileHeaderBytes {
				want = 6
			}
			if n < want {
				t.Fatalf("byte %d of %s: %d records are left, want %d", at, name, n, want)
			}
		}
	}
}

// TestFlippedBitsWithoutIndex damages segments that nothing but their own bytes tell about.
func TestFlippedBitsWithoutIndex(t *testing.T) {
	d := newDamaged(t)
	delete(d, indexName)
	whole := d[segmentName]
	for at := fileHeaderBytes; at < len(whole); at++ {
		with := bytes.Clone(whole)
		with[at] ^= 1 << (at % 8)
		if n := d.look(t, d.open(t, segmentName, with)); n < 6 {
			t.Fatalf("byte %d: %d records are left, want 6", at, n)
		}
	}
}

// TestCutFiles cuts every file at every length.
func TestCutFiles(t *testing.T) {
	d := newDamaged(t)
	for _, name := range []string{segmentName, indexName, tenantsName} {
		whole := d[name]
		for n := 0; n < len(whole); n++ {
			d.look(t, d.open(t, name, whole[:n]))
		}
	}
}

// TestForeignIndex gives a segment another's index, with records where it has none.
func TestForeignIndex(t *testing.T) {
	d, other := newDamaged(t), newDamaged(t)
	const name = indexName
	if n := d.look(t, d.open(t, name, other[name])); n != 7 {
		t.Errorf("%d records are left, want 7", n)
	}
	with := bytes.Clone(other[name])
	copy(with, d[name][:fileHeaderBytes])
	d.look(t, d.open(t, name, with))
}

// TestIndexThatLies exchanges two records of the same size in an index: neither is ever taken for the other.
func TestIndexThatLies(t *testing.T) {
	files := newTestFiles()
	o := Options{Dir: "cache", files: files}
	s := open(t, o)
	for i := range 3 {
		put(t, s, "a", i, 5000)
	}
	s.Close()
	path := filepath.Join("cache", indexName)
	with := files.read(path)
	first, second := (*slot)(with[slotOffset(0):]), (*slot)(with[slotOffset(1):])
	*first, *second = *newSlot(first.offset(), second.header(), 1), *newSlot(second.offset(), first.header(), 1)
	files.write(path, with)
	s = open(t, o)
	wantMissing(t, s, "a", 0, 5000)
	wantMissing(t, s, "a", 1, 5000)
	wantRecord(t, s, "a", 2, 5000)
	s.check(t)
}

// TestRecordOfAnotherTenant gives tenant b's records the id of tenant a, and a checksum that is right: they are nobody's.
func TestRecordOfAnotherTenant(t *testing.T) {
	d := newDamaged(t)
	delete(d, indexName)
	with := bytes.Clone(d[segmentName])
	a := (*header)(with[fileHeaderBytes:]).tenant()
	changed := 0
	err := scan(bytes.NewReader(with), fileHeaderBytes, int64(len(with)), func(h *header, offset int64) {
		h = (*header)(with[offset:])
		if h.magic() == recordMagic && h.tenant() != a {
			copy(h[4:12], a[:])
			binary.LittleEndian.PutUint32(h[28:32], h.checksum())
			changed++
		}
	})
	if err != nil || changed != 4 {
		t.Fatalf("%d records of b, error %v", changed, err)
	}
	if n := d.look(t, d.open(t, segmentName, with)); n != 3 {
		t.Errorf("%d records are left, want 3", n)
	}
}

// TestDamageWhileRunning overwrites a record under a store, which forgets it once it was asked for, and takes it again.
func TestDamageWhileRunning(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	s := open(t, o)
	for i := range 3 {
		put(t, s, "a", i, 9000)
	}
	flush(t, s)
	f, err := os.OpenFile(segmentPath(o.Dir, 1), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("damage"), 12000); err != nil {
		t.Fatal(err)
	}
	wantMissing(t, s, "a", 1, 9000)
	if _, ok := s.Has("a", key(1), Block); ok {
		t.Error("a damaged record is still there")
	}
	put(t, s, "a", 1, 9000)
	flush(t, s)
	for range 2 {
		for i := range 3 {
			wantRecord(t, s, "a", i, 9000)
		}
		s.Close()
		s = open(t, o)
	}
}

func FuzzOpenRecord(f *testing.F) {
	tenant := secret{1}.tenant([16]byte{2}, [32]byte{3})
	m := meta{key: key(1), parent: key(0), kind: State, tokens: 64, recompute: time.Second, rank: 1}
	record := sealRecord(nil, tenant, m, data(1, 100))
	f.Add(record)
	f.Add(record[:overheadBytes])
	f.Add(record[:10])
	f.Fuzz(func(t *testing.T, b []byte) {
		var plain [metaBytes]byte
		dst := make([]byte, 100)
		if len(b) > len(record) {
			dst = make([]byte, len(b))
		}
		got, err := openRecord(b, tenant, &plain, dst)
		if err == nil && (!bytes.Equal(dst, data(1, 100)) || got != m) {
			t.Fatalf("a record that nobody sealed: %+v", got)
		}
	})
}

// FuzzFiles opens folders of any content, and uses them.
func FuzzFiles(f *testing.F) {
	key, salt := secret{1}, [32]byte{3}
	keys := newKeyring(key)
	tenant := key.tenant(mac(keys.names, []byte("a")), salt)
	h := fileHeader(segmentMagic, [16]byte{4})
	segment := h[:]
	h = fileHeader(indexMagic, [16]byte{4})
	index := h[:]
	for i := range 3 {
		record := sealRecord(nil, tenant, meta{key: Key{byte(i)}, tokens: i}, data(i, 40))
		index = append(index, newSlot(int64(len(segment)), (*header)(record), 1)[:]...)
		segment = append(segment, record...)
	}
	slot := append(append([]byte{}, tenant.tag[:]...), salt[:]...)
	slot = append(slot, keys.check(slot)...)
	f.Add(segment, index, slot)
	f.Add(segment, []byte{}, slot)
	f.Add([]byte{}, index, []byte{})
	f.Fuzz(func(t *testing.T, segment, index, tenants []byte) {
		files := newTestFiles()
		if err := secretFile(filepath.Join("cache", "key")).write(files, key); err != nil {
			t.Fatal(err)
		}
		for name, b := range map[string][]byte{segmentName: segment, indexName: index, tenantsName: tenants} {
			files.write(filepath.Join("cache", name), b)
		}
		s := open(t, Options{Dir: "cache", MaxBytes: 64 << 10, files: files})
		for i := range 3 {
			dst := make([]byte, 40)
			if _, err := s.Read("a", Key{byte(i)}, Block, dst); err == nil && !bytes.Equal(dst, data(i, 40)) {
				t.Fatalf("record %d is not what was sealed: %x", i, dst)
			}
		}
		put(t, s, "a", 7, 100)
		flush(t, s)
		wantRecord(t, s, "a", 7, 100)
		if err := s.RemoveTenant("a"); err != nil {
			t.Fatal(err)
		}
		s.check(t)
	})
}
