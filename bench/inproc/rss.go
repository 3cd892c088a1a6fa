package inproc

import (
	"bytes"
	"os"
	"strconv"
)

// peakRSS returns the most memory that the process had in use since resetPeakRSS, in bytes, and 0 where the system
// does not tell (Linux, Documentation/filesystems/proc.rst: VmHWM).
func peakRSS() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(status, []byte("VmHWM:"))
	if fields := bytes.Fields(rest); len(fields) > 0 {
		kib, _ := strconv.ParseInt(string(fields[0]), 10, 64)
		return kib << 10
	}
	return 0
}

// resetPeakRSS starts a new measure; where it cannot, the peak is that of the process's whole life.
func resetPeakRSS() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }
