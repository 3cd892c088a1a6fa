package disk

import (
	"io/fs"
	"math"
	"os"

	"golang.org/x/sys/windows"
)

// lockFile locks a file until it is closed, or fails at once when another process has locked it.
func lockFile(f *os.File) error {
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	return windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, math.MaxUint32, math.MaxUint32, new(windows.Overlapped))
}

// syncDir does nothing: folders are durable by themselves.
func syncDir(string) error { return nil }

func allocated(info fs.FileInfo) int64 { return info.Size() }
