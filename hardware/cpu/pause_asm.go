//go:build (amd64 || arm64) && !purego

package cpu

// pause tells the processor that this thread spins.
//
//go:noescape
func pause()
