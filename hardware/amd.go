package hardware

import (
	"fmt"
	"strconv"
	"strings"
)

// amd lists the GPUs of the KFD topology, which ROCm itself reads, and the display cards on the bus that have no node
// there.
func (p *prober) amd(devices []pciDevice) []Accelerator {
	const nodes = "sys/class/kfd/kfd/topology/nodes"
	var found []Accelerator
	known := map[string]bool{}
	for _, node := range p.names(nodes) {
		properties := p.properties(nodes + "/" + node + "/properties")
		target := properties["gfx_target_version"]
		if target == 0 { // a CPU
			continue
		}
		location := properties["location_id"] // bus, device and function as the PCI specification packs them
		address := fmt.Sprintf("%04x:%02x:%02x.%x", properties["domain"], location>>8&0xff, location>>3&0x1f, location&7)
		render := fmt.Sprintf("sys/class/drm/renderD%d/device/", properties["drm_render_minor"])
		a := Accelerator{
			Kind: "amd", Index: len(found), Name: p.text(nodes + "/" + node + "/name"), PCI: address, Driver: "amdgpu",
			PCIID: fmt.Sprintf("%04x:%04x", properties["vendor_id"], properties["device_id"]), NUMANode: p.numaNode(address),
			// Major, minor and stepping are decimal pairs, printed as hexadecimal digits: 90402 is gfx942.
			Arch:        fmt.Sprintf("gfx%d%x%x", target/10000, target/100%100, target%100),
			MemoryBytes: p.number(render + "mem_info_vram_total"), MemoryUsed: p.number(render + "mem_info_vram_used"),
		}
		if perUnit := properties["simd_per_cu"]; perUnit > 0 {
			a.Cores = int(properties["simd_count"] / perUnit)
		}
		if a.Name == "" {
			a.Name = "AMD " + a.Arch
		}
		if a.Usable = p.exists("dev/kfd"); !a.Usable {
			a.Reason = "/dev/kfd is missing; a container needs the device nodes passed in"
		}
		known[address] = true
		found = append(found, a)
	}
	for _, d := range devices {
		if d.vendor != "1002" || !d.isDisplay() || known[d.address] {
			continue
		}
		id := d.vendor + ":" + d.device
		found = append(found, Accelerator{
			Kind: "amd", Name: "AMD GPU " + id, Index: len(found), PCI: d.address, PCIID: id, Driver: d.driver,
			NUMANode: p.numaNode(d.address), Reason: "the compute driver (KFD) does not list it",
		})
	}
	return found
}

// properties reads lines of a name and a number.
func (p *prober) properties(path string) map[string]uint64 {
	values := map[string]uint64{}
	for line := range strings.SplitSeq(p.text(path), "\n") {
		if fields := strings.Fields(line); len(fields) == 2 {
			if v, err := strconv.ParseUint(fields[1], 10, 64); err == nil {
				values[fields[0]] = v
			}
		}
	}
	return values
}
