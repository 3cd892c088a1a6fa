package hardware

import (
	"path"
	"slices"
	"strconv"
	"strings"
)

// Accelerator is a device beside the CPU. Usable says that this process could open it; whether a model runs on it is
// up to the devices built into the program.
type Accelerator struct {
	Kind        string `json:"kind"`  // "neuron", "nvidia", "amd", "intel" or "apple"
	Name        string `json:"name"`  // as its driver or its PCI id tells
	Index       int    `json:"index"` // among those of its kind
	Cores       int    `json:"cores"` // NeuronCores, or compute units; 0: unknown
	MemoryBytes uint64 `json:"memory_bytes"`
	MemoryUsed  uint64 `json:"memory_used"`
	Driver      string `json:"driver"` // version or name of the kernel's driver, "" without one
	Arch        string `json:"arch,omitempty"`
	PCI         string `json:"pci,omitempty"`    // bus address
	PCIID       string `json:"pci_id,omitempty"` // vendor:device
	NUMANode    int    `json:"numa_node"`        // -1: unknown
	Connected   []int  `json:"connected,omitempty"`
	Usable      bool   `json:"usable"`
	Reason      string `json:"reason"` // why it is not usable
}

// accelerators lists what every vendor's finder sees, and never nil, so that it prints as a list.
func (p *prober) accelerators() []Accelerator {
	devices := p.pciDevices()
	found := []Accelerator{}
	for _, find := range []func([]pciDevice) []Accelerator{p.neuron, p.nvidia, p.amd, p.intel, p.apple} {
		found = append(found, find(devices)...)
	}
	return found
}

// pciDevice is one function on the PCI bus.
type pciDevice struct {
	address        string // "0000:19:00.0"
	vendor, device string // four hexadecimal digits
	class          string // "0x030200"
	driver         string // name of the bound driver, "" without one
}

// isDisplay reports whether the class is one of display controllers, which includes GPUs without an output.
func (d pciDevice) isDisplay() bool { return strings.HasPrefix(d.class, "0x03") }

func (p *prober) pciDevices() []pciDevice {
	const bus = "sys/bus/pci/devices"
	var devices []pciDevice
	addresses := p.names(bus)
	slices.Sort(addresses)
	for _, address := range addresses {
		folder := path.Join(bus, address)
		devices = append(devices, pciDevice{
			address: address, class: p.text(folder + "/class"), driver: p.driver(folder),
			vendor: strings.TrimPrefix(p.text(folder+"/vendor"), "0x"),
			device: strings.TrimPrefix(p.text(folder+"/device"), "0x"),
		})
	}
	return devices
}

// driver names the driver bound to a device, as its uevent file tells: unlike the link beside it, a copied tree still
// has it.
func (p *prober) driver(folder string) string {
	for line := range strings.SplitSeq(p.text(folder+"/uevent"), "\n") {
		if name, ok := strings.CutPrefix(line, "DRIVER="); ok {
			return strings.TrimSpace(name)
		}
	}
	return ""
}

// numaNode returns the node a device hangs on, -1 when the machine does not tell.
func (p *prober) numaNode(address string) int {
	node, err := strconv.Atoi(p.text("sys/bus/pci/devices/" + address + "/numa_node"))
	if err != nil {
		return -1
	}
	return node
}
