package hardware

import "fmt"

// neuronChips are AWS Neuron devices by their PCI device id: the table that the driver itself binds
// (aws-neuron-driver, neuron_device.h), with physical cores and memory of one device. Neither is readable from the
// driver's files by an ordinary user.
var neuronChips = map[string]struct {
	name   string
	cores  int
	memory uint64
}{
	"7064": {"Inferentia", 4, 8 << 30}, "7065": {"Inferentia", 4, 8 << 30},
	"7066": {"Inferentia", 4, 8 << 30}, "7067": {"Inferentia", 4, 8 << 30},
	"7164": {"Trainium1", 2, 32 << 30}, "7264": {"Inferentia2", 2, 32 << 30},
	"7364": {"Trainium2", 8, 96 << 30}, "7564": {"Trainium3", 8, 144 << 30}, "7565": {"Trainium3", 8, 144 << 30},
}

const amazonVendor = "1d0f"

// neuron lists AWS Neuron devices. A device's index is the driver's and does not follow bus addresses, and the
// driver's class device has no link to the bus, so which address is which index only the tool neuron-ls tells; the
// address is therefore left out.
func (p *prober) neuron(devices []pciDevice) []Accelerator {
	var found []Accelerator
	version := p.text("sys/module/neuron/version")
	for _, d := range devices {
		chip, ok := neuronChips[d.device]
		if d.vendor != amazonVendor || !ok {
			continue
		}
		index := len(found)
		folder := fmt.Sprintf("sys/devices/virtual/neuron_device/neuron%d/", index)
		a := Accelerator{
			Kind: "neuron", Name: chip.name, Index: index, Cores: chip.cores, MemoryBytes: chip.memory,
			PCIID: d.vendor + ":" + d.device, NUMANode: -1, Driver: version,
			Arch: p.text(folder + "neuron_core0/info/architecture/arch_type"), Connected: parseList(p.text(folder + "connected_devices")),
		}
		if cores := p.number(folder + "core_count"); cores > 0 && cores <= maxListed { // readable by root only
			a.Cores = int(cores)
		}
		for core := range a.Cores {
			a.MemoryUsed += p.neuronCoreMemory(fmt.Sprintf("%sneuron_core%d/stats/memory_usage/device_mem", folder, core))
		}
		node := fmt.Sprintf("dev/neuron%d", index)
		if a.Usable = p.exists(node); !a.Usable {
			a.Reason = "/" + node + " is missing; the driver is not loaded, or a container needs the node passed in"
		}
		found = append(found, a)
	}
	return found
}

// neuronCoreMemory adds up the kinds of device memory in use on one core.
func (p *prober) neuronCoreMemory(folder string) uint64 {
	used := uint64(0)
	for _, kind := range p.names(folder) {
		switch kind {
		case "total", "present", "peak": // sums of the kinds
		default:
			used += p.number(folder + "/" + kind + "/total")
		}
	}
	return used
}
