//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly || windows)

package disk

import (
	"io/fs"
	"os"
)

// lockFile does nothing: these systems have no locks in common.
func lockFile(*os.File) error { return nil }

// syncDir does nothing: not every system lets folders be opened.
func syncDir(string) error { return nil }

func allocated(info fs.FileInfo) int64 { return info.Size() }
