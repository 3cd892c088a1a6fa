package engine

import (
	"hearth/hardware"
	"hearth/kvcache"
)

// Errors of lower layers that callers of an engine decide on, named here because they may not import those layers.
var (
	// ErrOutOfMemory says that a device has not enough memory for what was asked.
	ErrOutOfMemory = hardware.ErrOutOfMemory
	// ErrFull says that the cache has no block left, even after preemption.
	ErrFull = kvcache.ErrFull
)
