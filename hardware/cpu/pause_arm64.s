//go:build !purego

#include "textflag.h"

// func pause()
// CPU: any. Registers: none.
TEXT ·pause(SB), NOSPLIT, $0-0
	YIELD // hint that the thread spins
	RET
