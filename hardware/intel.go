package hardware

// intel lists the display controllers on the bus; a render node below the device says that a driver (i915 or xe) runs it.
func (p *prober) intel(devices []pciDevice) []Accelerator {
	var found []Accelerator
	for _, d := range devices {
		if d.vendor != "8086" || !d.isDisplay() {
			continue
		}
		folder := "sys/bus/pci/devices/" + d.address
		id := d.vendor + ":" + d.device
		a := Accelerator{
			Kind: "intel", Name: "Intel GPU " + id, Index: len(found), PCI: d.address, PCIID: id, Driver: d.driver,
			NUMANode: p.numaNode(d.address), MemoryBytes: p.number(folder + "/tile0/vram_total_bytes"),
		}
		if a.Usable = len(p.names(folder+"/drm")) > 0; !a.Usable {
			a.Reason = "no graphics driver is bound to it"
		}
		found = append(found, a)
	}
	return found
}
