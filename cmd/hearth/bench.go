package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"hearth/hardware"
)

func newBenchCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "bench",
		Short: "Measure models and kernels beside what the machine does at best",
		Long: `Measures from inside the process, without HTTP; hearth-bench measures servers. Every figure stands beside the bounds
of the machine in the same seconds: the bandwidth at which all threads read memory, and the rate of the fastest
instructions for sums of products, with nothing else to do. Both drift by tenths on shared machines, so compare
fractions rather than rates.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }, // arguments are checked where something runs
	}
	command.AddCommand(newBenchModelCommand(), newBenchSpeculateCommand(), newBenchKernelsCommand())
	return command
}

// benchRefusal is refusal with the flags of bench.
func benchRefusal(err error) error {
	if errors.Is(err, hardware.ErrOutOfMemory) {
		return fmt.Errorf("%w (change --batch, --ctx or --kv-type)", err)
	}
	if strings.Contains(err.Error(), "engine: context length") {
		return fmt.Errorf("--prompt, --generate, --ctx: %w", err)
	}
	return refusal(err)
}

// tableWriter keeps the first error of the many writes of a table, and writes nothing after it.
type tableWriter struct {
	out io.Writer
	err error
}

func (w *tableWriter) Write(b []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.out.Write(b)
	w.err = err
	return n, err
}

// printJSON writes a report as indented JSON.
func printJSON(out io.Writer, report any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(report)
}

// statusLine shows what is being done on one line of a terminal, and nothing elsewhere.
type statusLine struct{ width int }

func newStatusLine() *statusLine {
	return &statusLine{terminalWidth(os.Stderr)}
}

func (s *statusLine) show(text string) {
	if s.width > 0 {
		fmt.Fprintf(os.Stderr, "\r\x1b[K%s", text[:min(len(text), s.width-1)])
	}
}

func (s *statusLine) clear() { s.show("") }

// printBounds prints the machine's bounds as of one measure.
func printBounds(out io.Writer, r *hardware.Roofline) {
	fmt.Fprintf(out, "%-14s %6.1f GB/s best, %.1f median\n", "read", r.ReadBytes/1e9, r.MedianReadBytes/1e9)
	for _, p := range r.Peaks {
		fmt.Fprintf(out, "%-14s %6.0f GOPS (%s)\n", p.Arithmetic, p.Ops/1e9, strings.ReplaceAll(p.Instructions, " ", ", "))
	}
}

// percent writes a share; what the machine cannot tell stays empty.
func percent(share float64) string {
	if share == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", 100*share)
}
