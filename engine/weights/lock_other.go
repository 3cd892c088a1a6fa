//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly || windows)

package weights

import "os"

// lockFile does nothing: these systems have no locks in common.
func lockFile(*os.File) error { return nil }
