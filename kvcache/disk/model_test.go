package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// TestAgainstModel compares random operations with a map. A store may lose records, for room, but must never have others.
func TestAgainstModel(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			files := newTestFiles()
			files.noPunch = seed%2 == 1
			m := &model{files: files, r: rand.New(rand.NewPCG(seed, 1)), want: map[modelKey][]byte{}, o: Options{
				Dir: "cache", MaxBytes: 400 << 10, SegmentBytes: 32 << 10, files: files,
			}}
			m.s = open(t, m.o)
			for range 300 {
				m.step(t)
			}
			if st := m.s.Stats(); m.evicted+st.Evicted == 0 || m.compacted == 0 {
				t.Errorf("%d records gave way, %d files were removed: the test is too small", m.evicted+st.Evicted, m.compacted)
			}
		})
	}
}

type modelKey struct {
	tenant string
	key    Key
	kind   Kind
}

type model struct {
	r         *rand.Rand
	files     *testFiles
	o         Options
	s         *Store
	want      map[modelKey][]byte
	evicted   uint64
	compacted int
}

func (m *model) key() modelKey {
	return modelKey{string(rune('a' + m.r.IntN(3))), key(m.r.IntN(60)), Kind(m.r.IntN(2))}
}

func (m *model) step(t *testing.T) {
	switch k := m.key(); m.r.IntN(40) {
	default:
		n := m.r.IntN(12000)
		if m.r.IntN(20) == 0 {
			n *= 5 // larger than a segment, sometimes
		}
		bytes := data(m.r.Int(), n)
		if m.want[k] != nil {
			bytes = m.want[k] // a key names its data
		}
		r := Record{Tenant: k.tenant, Key: k.key, Kind: k.kind, Recompute: time.Duration(m.r.IntN(1e6)), Data: bytes}
		if i := int(k.key[0]); i > 1 && m.r.IntN(2) == 0 {
			r.Parent = key(m.r.IntN(i - 1))
		}
		if m.s.Put(r) {
			m.want[k] = bytes
		}
	case 0, 1, 2:
		m.read(t, k)
	case 3:
		m.s.Pin(k.tenant, []Key{k.key}, true)
	case 4, 5, 6:
		m.s.Pin(k.tenant, []Key{k.key}, false)
	case 7, 8:
		m.want[modelKey{k.tenant, k.key, Block}], m.want[modelKey{k.tenant, k.key, State}] = nil, nil
		if err := m.s.Remove(k.tenant, []Key{k.key}); err != nil {
			t.Fatal(err)
		}
		if _, ok := m.s.Has(k.tenant, k.key, k.kind); ok {
			t.Fatal("a removed record is there")
		}
	case 9:
		if m.r.IntN(5) == 0 {
			for other := range m.want {
				if other.tenant == k.tenant {
					m.want[other] = nil
				}
			}
			if err := m.s.RemoveTenant(k.tenant); err != nil {
				t.Fatal(err)
			}
		}
	case 10, 11:
		m.settle(t)
		m.s.check(t)
	case 12:
		m.evicted += m.s.Stats().Evicted
		if err := m.s.Close(); err != nil {
			t.Fatal(err)
		}
		if m.r.IntN(2) == 0 {
			m.files.removeAll("cache/*.index")
		}
		before := m.s.Stats()
		m.s = open(t, m.o)
		m.settle(t)
		m.s.check(t)
		if after := m.s.Stats(); after.Records != before.Records {
			t.Fatalf("%d records after opening again, %d before", after.Records, before.Records)
		}
	}
}

// settle waits until the writer has nothing to do and looks at everything.
func (m *model) settle(t *testing.T) {
	t.Helper()
	if err := m.s.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	m.s.settle(t)
	m.compacted = max(m.compacted, int(m.s.number)-len(m.s.segments))
	if st := m.s.Stats(); st.Bytes > st.Budget || st.Failing != nil || st.Damaged != 0 {
		t.Fatalf("stats %+v", st)
	}
	for k := range m.want {
		m.read(t, k)
	}
}

func (m *model) read(t *testing.T, k modelKey) {
	t.Helper()
	want := m.want[k]
	dst := make([]byte, max(len(want), 60000))
	n, err := m.s.Read(k.tenant, k.key, k.kind, dst)
	switch {
	case errors.Is(err, ErrMissing):
		if m.s.Stats().Damaged > 0 {
			t.Fatal("a record is damaged")
		}
	case err != nil:
		t.Fatal(err)
	case want == nil || !bytes.Equal(dst[:n], want):
		t.Fatalf("record %s %x of kind %d has %d bytes that are not its own", k.tenant, k.key[:4], k.kind, n)
	}
}
