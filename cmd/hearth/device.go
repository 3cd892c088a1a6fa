package main

import (
	"github.com/spf13/pflag"

	"hearth/hardware"
	"hearth/hardware/all"
)

// deviceFlags are the flags of every command that computes.
type deviceFlags struct {
	name    string
	threads int
	isa     string
}

func (d *deviceFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&d.name, "device", "cpu", "device to run on: "+all.NameList())
	flags.IntVar(&d.threads, "threads", 0, "worker threads (default: physical cores within the process's quota)")
	flags.StringVar(&d.isa, "isa", "", "instruction set to use, for comparisons (default: the best of this machine)")
}

// open starts the device.
func (d *deviceFlags) open() (hardware.Device, error) {
	device, err := all.Open(d.name, all.Options{Threads: d.threads, ISA: d.isa})
	return device, refusal(err)
}
