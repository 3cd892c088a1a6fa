//go:build !linux

package cpu_test

import "testing"

// pinThread leaves the thread to the system where there is no way to keep it on one processor.
func pinThread(*testing.B) {}
