package hardware

import "github.com/shirou/gopsutil/v3/disk"

// FreeDisk returns the bytes that this process may still write in a folder, 0 where the system does not tell.
func FreeDisk(folder string) uint64 {
	usage, err := disk.Usage(folder)
	if err != nil {
		return 0
	}
	return usage.Free
}
