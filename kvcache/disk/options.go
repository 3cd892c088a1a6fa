package disk

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"
)

// Options say where a store lies and what it may take. The zero value of everything but Dir is a sensible choice.
type Options struct {
	// Dir is the folder, which the store has for itself; its parent must exist.
	Dir string
	// KeyFile holds the secret that everything is encrypted with; it is made when there is none. Default: "key" in Dir,
	// which protects nothing from whoever has the folder: a name outside of it does.
	KeyFile string
	// MaxBytes is what the files may take. Default: 16 GiB.
	MaxBytes int64
	// SegmentBytes is about the size of one file, at most a quarter of MaxBytes. Default: 1/64 of MaxBytes, within 4 MiB and 1 GiB.
	SegmentBytes int64
	// QueueBytes bounds the records that wait to be written, in bytes of their data. Default: 256 MiB.
	QueueBytes int64
	// RetryAfter is how long a disk that failed is left alone. Default: 2 seconds.
	RetryAfter time.Duration
	// Logger gets what the operator should know: that the disk fails, that it works again, that old records are lost. Default: none.
	Logger *slog.Logger
	// Now tells the time, for tests. Default: time.Now.
	Now func() time.Time

	files fileSystem // for tests
}

const (
	defaultMaxBytes   = 16 << 30
	defaultQueueBytes = 256 << 20
	minSegmentBytes   = 4 << 20
	maxSegmentBytes   = 1 << 30
)

// Validate names the first field that is out of range.
func (o Options) Validate() error {
	o.setDefaults()
	switch {
	case o.Dir == "":
		return errors.New("kvcache/disk: option Dir is missing")
	case o.MaxBytes < 4096:
		return fmt.Errorf("kvcache/disk: option MaxBytes is %d, want 4096 at least", o.MaxBytes)
	case o.SegmentBytes < 0 || o.SegmentBytes > min(o.MaxBytes/4, maxSegmentBytes):
		return fmt.Errorf("kvcache/disk: option SegmentBytes is %d, want at most %d and a quarter of MaxBytes, %d", o.SegmentBytes, maxSegmentBytes, o.MaxBytes)
	case o.QueueBytes < 0:
		return fmt.Errorf("kvcache/disk: option QueueBytes is %d, want 0 or more", o.QueueBytes)
	case o.RetryAfter < 0:
		return fmt.Errorf("kvcache/disk: option RetryAfter is %v, want 0 or more", o.RetryAfter)
	}
	return nil
}

func (o *Options) setDefaults() {
	if o.KeyFile == "" {
		o.KeyFile = filepath.Join(o.Dir, "key")
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = min(max(o.MaxBytes/64, minSegmentBytes), maxSegmentBytes, o.MaxBytes/4)
	}
	if o.QueueBytes == 0 {
		o.QueueBytes = defaultQueueBytes
	}
	if o.RetryAfter == 0 {
		o.RetryAfter = 2 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.files == nil {
		o.files = osFiles{}
	}
}
