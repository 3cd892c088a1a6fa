package engine

import (
	"context"

	"hearth/kvcache/disk"
)

// records is what an engine asks of a disk store.
type records interface {
	Put(disk.Record) bool
	Has(tenant string, key disk.Key, kind disk.Kind) (size int, ok bool)
	Read(tenant string, key disk.Key, kind disk.Kind, dst []byte) (int, error)
	Prefetch(tenant string, keys []disk.Key)
	Pin(tenant string, keys []disk.Key, on bool)
	Remove(tenant string, keys []disk.Key) error
	Sync(ctx context.Context) error
	Stats() disk.Stats
}
