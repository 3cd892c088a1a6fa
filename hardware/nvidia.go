package hardware

import (
	"slices"
	"strings"
)

const nvidiaVendor = "10de"

// nvidia lists the GPUs of the driver's own folder, /proc/driver/nvidia/gpus, and then the cards on the bus that no
// driver runs. The files tell neither memory nor compute capability; only the driver's library does.
func (p *prober) nvidia(devices []pciDevice) []Accelerator {
	var found []Accelerator
	version := p.nvidiaVersion()
	for _, address := range p.names("proc/driver/nvidia/gpus") {
		a := Accelerator{Kind: "nvidia", Name: "NVIDIA GPU", Index: len(found), PCI: address, NUMANode: p.numaNode(address), Driver: version, Usable: true}
		for line := range strings.SplitSeq(p.text("proc/driver/nvidia/gpus/"+address+"/information"), "\n") {
			key, value, _ := strings.Cut(line, ":")
			switch value = strings.TrimSpace(value); {
			case key == "Model" && value != "":
				a.Name = value
			case key == "GPU Excluded" && value == "Yes":
				a.Usable, a.Reason = false, "the driver excludes it"
			}
		}
		if a.Usable && !p.exists("dev/nvidiactl") {
			a.Usable, a.Reason = false, "/dev/nvidiactl is missing; a container needs the device nodes passed in"
		}
		found = append(found, a)
	}
	for _, d := range devices {
		if d.vendor != nvidiaVendor || !d.isDisplay() {
			continue
		}
		id := d.vendor + ":" + d.device
		if i := slices.IndexFunc(found, func(a Accelerator) bool { return strings.EqualFold(a.PCI, d.address) }); i >= 0 {
			found[i].PCIID = id
			continue
		}
		reason := "no NVIDIA driver is loaded"
		if d.driver != "" {
			reason = "the driver " + d.driver + " holds it, not NVIDIA's"
		}
		found = append(found, Accelerator{
			Kind: "nvidia", Name: "NVIDIA GPU " + id, Index: len(found), PCI: d.address, PCIID: id,
			NUMANode: p.numaNode(d.address), Driver: d.driver, Reason: reason,
		})
	}
	return found
}

// nvidiaVersion finds the version in a line such as
// "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar …".
func (p *prober) nvidiaVersion() string {
	line, _, _ := strings.Cut(p.text("proc/driver/nvidia/version"), "\n")
	for word := range strings.FieldsSeq(line) {
		if word[0] >= '0' && word[0] <= '9' && strings.Contains(word, ".") {
			return word
		}
	}
	return ""
}
