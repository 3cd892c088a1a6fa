package hardware

import "runtime"

// apple reports the GPU that every Apple processor has; it shares the main memory.
func (p *prober) apple([]pciDevice) []Accelerator {
	if !p.isHost() || runtime.GOOS != "darwin" || runtime.GOARCH != "arm64" {
		return nil
	}
	return []Accelerator{{Kind: "apple", Name: "Apple GPU", NUMANode: -1, Driver: "Metal", Usable: true}}
}
