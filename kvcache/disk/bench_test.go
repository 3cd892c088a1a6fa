package disk

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// benchmarkSizes are those of a block of a small model and of a large one.
var benchmarkSizes = []int{16 << 10, 256 << 10, 4 << 20}

func benchmarkStore(b *testing.B, maxBytes int64) *Store {
	s, err := Open(Options{Dir: b.TempDir(), MaxBytes: maxBytes})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

func BenchmarkPut(b *testing.B)     { benchmarkPut(b, 4<<30) }
func BenchmarkPutFull(b *testing.B) { benchmarkPut(b, 64<<20) }

// benchmarkPut includes the time until all is durable.
func benchmarkPut(b *testing.B, maxBytes int64) {
	for _, size := range benchmarkSizes {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			s := benchmarkStore(b, maxBytes)
			bytes := data(1, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for i := range b.N {
				for !s.Put(Record{Tenant: "a", Key: key(i), Recompute: time.Millisecond, Data: bytes}) {
					s.Sync(context.Background())
				}
			}
			s.Sync(context.Background())
		})
	}
}

func BenchmarkRead(b *testing.B) {
	for _, size := range benchmarkSizes {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			s := benchmarkStore(b, 1<<30)
			count := (64 << 20) / size
			for i := range count {
				s.Put(Record{Tenant: "a", Key: key(i), Recompute: time.Millisecond, Data: data(i, size)})
			}
			s.Sync(context.Background())
			dst := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := s.Read("a", key(i%count), Block, dst); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOpen starts with 100,000 records of 1 KiB, whose number is what counts.
func BenchmarkOpen(b *testing.B) {
	for _, indexed := range []bool{true, false} {
		b.Run(fmt.Sprintf("index=%v", indexed), func(b *testing.B) {
			o := Options{Dir: b.TempDir(), MaxBytes: 1 << 30}
			s, err := Open(o)
			if err != nil {
				b.Fatal(err)
			}
			bytes := data(1, 1024)
			for i := range 100_000 {
				if !s.Put(Record{Tenant: "a", Key: key(i), Parent: key(i - 1), Tokens: i, Recompute: time.Millisecond, Data: bytes}) {
					b.Fatal("not taken")
				}
			}
			s.Close()
			for b.Loop() {
				if !indexed {
					b.StopTimer()
					dropIndexes(b, o.Dir)
					b.StartTimer()
				}
				s, err := Open(o)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if n := s.Stats().Records; n != 100_000 {
					b.Fatalf("%d records", n)
				}
				s.Close()
				b.StartTimer()
			}
		})
	}
}

// BenchmarkDecrypt is the part of Read that is not the system's.
func BenchmarkDecrypt(b *testing.B) {
	for _, size := range benchmarkSizes {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			t := secret{1}.tenant([16]byte{2}, [32]byte{3})
			record := sealRecord(nil, t, meta{}, make([]byte, size))
			dst, plain := make([]byte, size), new([metaBytes]byte)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := openRecord(record, t, plain, dst); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
