package disk

import (
	"errors"
	"time"
)

// ErrMissing says that a record is not there, or not there whole. Computing it again is all that helps.
var ErrMissing = errors.New("kvcache/disk: no such record")

// Key names what a record holds: a keyed hash of the model, the tenant's salt, and all tokens up to the record's end.
type Key [32]byte

// Kind tells the two things apart that may exist for one key.
type Kind uint8

// The kinds of records.
const (
	Block Kind = iota // the rows of one cache block
	State             // the state of a sequence at the end of that block
)

// Record is what is stored under a key.
type Record struct {
	Tenant    string
	Key       Key
	Kind      Kind
	Parent    Key           // of the block before, without which this record is of no use; zero for the first
	Tokens    int           // length of the prefix that the record ends
	Recompute time.Duration // about how long it takes to compute the record again, once what comes before it is there
	Data      []byte
	// Release, when set, is called from any goroutine once Data may be used for something else.
	Release func()
}

// Stats is a snapshot of what a store holds and has done. Counters count from Open.
type Stats struct {
	Records, Pinned       int
	Bytes, Budget         int64   // of the files; what they may take
	Garbage               int64   // of Bytes, what compaction will free
	Queued                int     // records that are still to be written
	Written, WrittenBytes uint64  // records
	Read, ReadBytes       uint64  // records found whole
	Missed                uint64  // reads of records that were not there
	Damaged               uint64  // records found broken, and forgotten
	Lost                  uint64  // records whose files somebody else removed
	Dropped               uint64  // records not written, for a full queue or a failing disk
	Evicted               uint64  // records that gave way to others
	ReadSpeed, WriteSpeed float64 // bytes per second, measured; 0: not yet
	Failing               error   // why nothing can be written now; nil: it can
}
