package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"hearth/hardware"
	"hearth/hardware/all"
)

func newDoctorCommand() *cobra.Command {
	var (
		root   string
		asJSON bool
	)
	command := &cobra.Command{
		Use:   "doctor",
		Short: "Show what is in this machine and how Hearth will use it",
		Long: `Looks at processors, memory, the limits of this process's control groups, and accelerators, by reading files
alone. With --root it reads a copy of another machine's /proc, /sys and /dev.`,
		Example: "  hearth doctor\n  hearth doctor --json | jq .accelerators",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if info, err := os.Stat(root); err != nil {
				return fmt.Errorf("--root: %w", err)
			} else if !info.IsDir() {
				return fmt.Errorf("--root: %s is not a folder", root)
			}
			report, err := diagnose(root)
			if err != nil {
				return err
			}
			if asJSON {
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetIndent("", "  ")
				return encoder.Encode(report)
			}
			return report.print(cmd.OutOrStdout())
		},
	}
	command.Flags().StringVar(&root, "root", "/", "folder that holds the machine's /proc, /sys and /dev")
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return command
}

// diagnosis is what doctor shows; its JSON is an interface that scripts rely on.
type diagnosis struct {
	hardware.Machine
	Threads     int    `json:"threads"`                // that kernels run on
	KernelLevel string `json:"kernel_level,omitempty"` // instruction set of the kernels; of this machine alone
	// KernelLevels are all instruction sets that there are kernels for, best first.
	KernelLevels []hardware.Level `json:"kernel_levels,omitempty"`
	Devices      []string         `json:"devices"` // of this build
}

// diagnose surveys the machine whose files are under root. Which kernels run is asked of the device itself, and so is
// known of this machine alone.
func diagnose(root string) (*diagnosis, error) {
	m := hardware.Probe(root)
	d := &diagnosis{Machine: m, Threads: m.Threads(), Devices: strings.Split(all.NameList(), ", ")}
	if filepath.Clean(root) != "/" {
		return d, nil
	}
	device, err := all.Open("cpu", all.Options{})
	if err != nil {
		return nil, err
	}
	info := device.Info()
	d.Threads, d.KernelLevel, d.KernelLevels = info.Threads, info.Level, info.Levels
	return d, device.Close()
}

func (m *diagnosis) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	row("processor", "%s", orUnknown(m.CPU.Name))
	row("cores", "%s, %s, %s", plural(m.CPU.Cores, "core"), plural(m.CPU.Threads, "thread"), plural(m.CPU.Sockets, "socket"))
	row("features", "%s", orUnknown(strings.Join(m.CPU.Features, " ")))
	for _, c := range m.CPU.Caches {
		row(fmt.Sprintf("L%d cache", c.Level), "%s %s, shared by processors %s", formatBytes(c.SizeBytes), strings.ToLower(c.Type), c.SharedBy)
	}
	for _, n := range m.CPU.NUMA {
		row(fmt.Sprintf("NUMA node %d", n.ID), "processors %s, %s", n.CPUs, formatBytes(n.MemoryBytes))
	}
	row("memory", "%s, %s available", formatBytes(m.Memory.TotalBytes), formatBytes(m.Memory.AvailableBytes))
	limits := []string{}
	if l := m.Limits; l.CgroupVersion > 0 {
		if l.CPUs > 0 {
			limits = append(limits, fmt.Sprintf("%.3g processors", l.CPUs))
		}
		if l.MemoryBytes > 0 {
			limits = append(limits, fmt.Sprintf("%s of memory, %s used", formatBytes(l.MemoryBytes), formatBytes(l.MemoryUsed)))
		}
	}
	if len(limits) == 0 {
		row("limits", "none")
	} else {
		row("limits", "%s (control groups, version %d)", strings.Join(limits, ", "), m.Limits.CgroupVersion)
	}
	if m.Instance != "" {
		row("instance", "%s", m.Instance)
	}
	row("threads", "%d for kernels", m.Threads)
	if m.KernelLevel != "" {
		m.printLevels(row)
	}
	row("for models", "%s; the cache takes half of what the weights leave", formatBytes(m.Limits.UsableBytes))
	if err := w.Flush(); err != nil {
		return err
	}
	return printAccelerators(out, m.Accelerators)
}

// printLevels says which kernels run, which others --isa takes, and why better ones do not run.
func (m *diagnosis) printLevels(row func(name, format string, args ...any)) {
	var others []string
	for _, l := range m.KernelLevels {
		if l.Reason == "" && l.Name != m.KernelLevel {
			others = append(others, l.Name)
		}
	}
	if len(others) == 0 {
		row("kernels", "%s", m.KernelLevel)
	} else {
		row("kernels", "%s; with --isa also %s", m.KernelLevel, strings.Join(others, ", "))
	}
	for _, l := range m.KernelLevels {
		if l.Reason != "" {
			row("", "not %s: %s", l.Name, l.Reason)
		}
	}
}

func printAccelerators(out io.Writer, accelerators []hardware.Accelerator) error {
	if len(accelerators) == 0 {
		_, err := fmt.Fprintf(out, "\nNo accelerators. Devices of this build: %s.\n", all.NameList())
		return err
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ACCELERATOR\tNAME\tCORES\tMEMORY\tDRIVER\tUSABLE")
	for _, a := range accelerators {
		usable := "yes"
		if !a.Usable {
			usable = "no: " + a.Reason
		}
		cores, memory := "-", "-"
		if a.Cores > 0 {
			cores = fmt.Sprint(a.Cores)
		}
		if a.MemoryBytes > 0 {
			memory = formatBytes(a.MemoryBytes)
		}
		fmt.Fprintf(w, "%s %d\t%s\t%s\t%s\t%s\t%s\n", a.Kind, a.Index, a.Name, cores, memory, orUnknown(a.Driver), usable)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\nDevices of this build: %s. Accelerators are listed; models run on the CPU.\n", all.NameList())
	return err
}

// plural writes a count with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func orUnknown(text string) string {
	if text == "" {
		return "unknown"
	}
	return text
}

// formatBytes writes a size in binary units with three significant digits.
func formatBytes(n uint64) string {
	const units = "KMGTPE"
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), -1
	for value >= 1<<10 {
		value /= 1 << 10
		unit++
	}
	switch {
	case value >= 100:
		return fmt.Sprintf("%.0f %ciB", value, units[unit])
	case value >= 10:
		return fmt.Sprintf("%.1f %ciB", value, units[unit])
	}
	return fmt.Sprintf("%.2f %ciB", value, units[unit])
}
