// Package all links the devices in, best first.
package all

import (
	"fmt"
	"runtime"
	"strings"

	"hearth/hardware"
	"hearth/hardware/cpu"
	"hearth/hardware/gorgonia"
)

// Options are what any device may be told.
type Options struct {
	Threads int    // worker threads; 0: what hardware.Probe advises
	ISA     string // instruction set of the CPU device; "": the best
}

// drivers lists the devices by name.
var drivers = []struct {
	name string
	open func(Options) (hardware.Device, error)
}{
	{"cpu", openCPU},
	{"gorgonia", openGorgonia},
}

// NameList returns the names of all devices, for help texts.
func NameList() string {
	var names []string
	for _, d := range drivers {
		names = append(names, d.name)
	}
	return strings.Join(names, ", ")
}

// Open starts a device by its name.
func Open(name string, o Options) (hardware.Device, error) {
	for _, d := range drivers {
		if d.name == name {
			return d.open(o)
		}
	}
	return nil, fmt.Errorf("hardware: unknown device %q; known are %s", name, NameList())
}

// openGorgonia refuses what the device would ignore.
func openGorgonia(o Options) (hardware.Device, error) {
	if o != (Options{}) {
		return nil, fmt.Errorf("hardware: device gorgonia has neither worker threads nor instruction sets to choose, got %d and %q", o.Threads, o.ISA)
	}
	return gorgonia.Open(gorgonia.Options{})
}

func openCPU(o Options) (hardware.Device, error) {
	machine := hardware.Probe("")
	threads := o.Threads
	if threads == 0 {
		threads = min(machine.Threads(), runtime.NumCPU())
	}
	// One more thread than the kernels use: they spin, and the collector and the network need a place to run.
	if runtime.GOMAXPROCS(0) < threads+1 {
		runtime.GOMAXPROCS(threads + 1)
	}
	return cpu.Open(cpu.Options{Threads: threads, ISA: o.ISA, FreeBytes: machine.Limits.UsableBytes})
}
