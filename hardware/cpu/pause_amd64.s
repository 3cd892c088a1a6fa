//go:build !purego

#include "textflag.h"

// func pause()
// CPU: SSE2. Registers: none.
TEXT ·pause(SB), NOSPLIT, $0-0
	PAUSE // leave the core to its other thread, and the loop without a penalty
	RET
