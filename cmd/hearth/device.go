package main

import (
	"log/slog"
	"runtime"

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
	flags.StringVar(&d.isa, "isa", "", "instruction set to use, for comparisons; hearth doctor lists them (default: the best of this machine)")
}

// open starts the device, and warns of what the machine claims to run and gets wrong, and of workers that would wait for
// each other's processors.
func (d *deviceFlags) open(logger *slog.Logger) (hardware.Device, error) {
	device, err := all.Open(d.name, all.Options{Threads: d.threads, ISA: d.isa})
	if err != nil {
		return nil, refusal(err)
	}
	for _, level := range device.Info().Levels {
		if level.Faulty {
			logger.Warn("an instruction set is not used", "level", level.Name, "reason", level.Reason)
		}
	}
	if d.threads > 0 {
		machine := hardware.Probe("")
		if most := mostThreads(&machine); d.threads > most {
			logger.Warn("more worker threads than processors: each step waits for the last of them", "threads", d.threads, "processors", most)
		}
	}
	return device, nil
}

// mostThreads is how many threads of this process can run at once.
func mostThreads(m *hardware.Machine) int {
	if q := m.Limits.CPUs; q > 0 {
		return max(1, min(runtime.NumCPU(), int(q)))
	}
	return runtime.NumCPU()
}
