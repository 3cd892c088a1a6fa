package disk

import (
	"os"

	"golang.org/x/sys/unix"
)

// advise is an advice: it may fail.
func advise(f *os.File, offset, n int64) {
	_ = unix.Fadvise(int(f.Fd()), offset, n, unix.FADV_WILLNEED)
}
