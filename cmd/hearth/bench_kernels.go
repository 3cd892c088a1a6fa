package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"hearth/bench/inproc"
	"hearth/hardware/quant"
)

func newBenchKernelsCommand() *cobra.Command {
	var (
		device  deviceFlags
		options inproc.KernelOptions
		formats []string
		asJSON  bool
	)
	command := &cobra.Command{
		Use:   "kernels",
		Short: "Measure single operations",
		Long: `Runs operations by themselves, as the device runs them in a model. Weights and caches are four times the processor's
largest cache, and read in turns; other operands lie in its caches.

  shape     weights: outputs x inputs; experts: their number, hidden elements of one, inputs, with 8 chosen by a token;
            attention: sequences @ tokens before, of one layer with 16 heads of 128, 8 of keys
  rows      tokens of each sequence
  of read   bytes of weights, of the cache or of rows, as a fraction of the bandwidth at which all threads read memory;
            more than all where the operands lie in caches
  of peak   operations, as a fraction of the fastest instructions for them: int8 for quantized weights, float32 for
            attention
  of limit  the larger of the two: how near the kernel is to what bounds it

The choice of tokens (sample) and parts of operations (part) run on one core, without fractions.`,
		Example: "  hearth bench kernels\n  hearth bench kernels --op linear --format q4_k,q6_k\n  hearth bench kernels --op attention --isa avx2 --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, op := range options.Ops {
				if !slices.Contains(inproc.KernelOps, op) {
					return fmt.Errorf("--op: %q is none of %s", op, strings.Join(inproc.KernelOps, ", "))
				}
			}
			dev, err := device.open(warnings(cmd.ErrOrStderr()))
			if err != nil {
				return err
			}
			defer dev.Close()
			for _, name := range formats {
				f, ok := quant.ByName(name)
				if !ok || !slices.Contains(dev.Info().Formats, f) {
					return fmt.Errorf("--format: %q is none of %s", name, formatNames(dev.Info().Formats))
				}
				options.Formats = append(options.Formats, f)
			}
			status, out := newStatusLine(), &tableWriter{out: cmd.OutOrStdout()}
			options.Device, options.Progress = dev, status.show
			if !asJSON {
				head := sync.OnceFunc(func() { printKernelHead(out) })
				options.Row = func(r inproc.KernelRow) { status.clear(); head(); printKernelRow(out, &r) }
			}
			report, err := inproc.Kernels(cmd.Context(), options)
			status.clear()
			switch {
			case err != nil:
				return refusal(err)
			case asJSON:
				return printJSON(out, report)
			}
			if n := len(report.Rows); n > 0 {
				fmt.Fprintf(out, "\n%s, %s, %s; at best, beside the last row:\n", report.Device, report.Level, plural(report.Threads, "thread"))
				printBounds(out, &report.Rows[n-1].Bounds)
			}
			return out.err
		},
	}
	flags := command.Flags()
	flags.StringSliceVar(&options.Ops, "op", nil, "operations, separated by commas (default all): "+strings.Join(inproc.KernelOps, ", "))
	flags.StringSliceVar(&formats, "format", nil, "formats of weights and caches, separated by commas (default: those that models come in)")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	device.add(flags)
	completeDevice(command)
	complete(command, "op", inproc.KernelOps...)
	complete(command, "format", strings.Split(formatNames(quant.All()), ", ")...)
	return command
}

func printKernelHead(out io.Writer) {
	fmt.Fprintf(out, "%-10s %-8s %-33s %5s %12s %8s %8s %8s %8s %8s\n", "op", "format", "shape", "rows", "time", "GB/s", "of read", "GOPS", "of peak", "of limit")
}

func printKernelRow(out io.Writer, r *inproc.KernelRow) {
	if r.Seconds == 0 { // nothing was left of its time without what runs beside it
		fmt.Fprintf(out, "%-10s %-8s %-33s %5d %12s\n", r.Op, strings.ToLower(r.Format), r.Shape, r.Rows, "too short")
		return
	}
	took := time.Duration(r.Seconds * float64(time.Second))
	unit := 10 * time.Nanosecond
	if took > time.Millisecond {
		unit = time.Microsecond
	}
	fmt.Fprintf(out, "%-10s %-8s %-33s %5d %12s %8.2f %8s %8.1f %8s %8s\n", r.Op, strings.ToLower(r.Format), r.Shape, r.Rows, took.Round(unit),
		r.ReadRate/1e9, percent(r.ReadShare), r.OpsRate/1e9, percent(r.ComputeShare), percent(r.LimitShare))
}
