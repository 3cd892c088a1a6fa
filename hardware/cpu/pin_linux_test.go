package cpu_test

import (
	"testing"

	"golang.org/x/sys/unix"
)

// pinThread keeps the calling thread on the first processor it may run on.
func pinThread(b *testing.B) {
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		b.Error(err)
		return
	}
	for cpu := 0; ; cpu++ {
		if all.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		b.Error(err)
	}
}
