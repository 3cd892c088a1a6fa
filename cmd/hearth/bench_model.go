package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"hearth/bench/inproc"
	"hearth/hardware"
)

func newBenchModelCommand() *cobra.Command {
	var (
		device  deviceFlags
		options inproc.ModelOptions
		kvType  string
		asJSON  bool
	)
	command := &cobra.Command{
		Use:   "model [-m MODEL]",
		Short: "Measure a model: prefill, decode, memory, load time",
		Long: `Runs the engine on random tokens, greedily and without HTTP: prefill of -p tokens, and decode of -n tokens by each
number of sequences of -b, both behind each number of tokens of --ctx, rounded up to blocks of 64. What the cache holds
before a test is not computed but copied from a block that was, which attention reads no faster or slower. Models whose
sequences have state beside the cache go on from a copy of a state that was computed, which takes as long as any other.

  load     opening the file and packing its weights, without the vocabulary, which servers read meanwhile
  test     pp512: prefill of 512 tokens; tg64: decode of 64 tokens by every sequence
  depth    tokens in each sequence's cache before the test
  t/s      tokens per second, all sequences together
  loop     part of a step outside the device: scheduling, sampling, events
  MB/step  packed weights once, and the cache that attention reads
  of read  bandwidth of these bytes, as a fraction of the best that all threads read with nothing else to do
  of peak  operations of the matrix products (2 for each parameter and token; the head for decoded tokens alone), as a
           fraction of the fastest instructions for them: int8 for all quantized weights
  read, int8   these limits, measured before, between and after the repeats of the row: the median`,
		Example: "  hearth bench model -m model.gguf -p 512 -n 64 -b 1,4,8,16\n" +
			"  hearth bench model -m model.gguf -p 512 -n 32 -b 1 --ctx 0,8192,32768 --kv-type q8_0 --json",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := validateBenchModel(&options); err != nil {
				return err
			}
			dev, err := device.open(warnings(cmd.ErrOrStderr()))
			if err != nil {
				return err
			}
			defer dev.Close()
			if kvType != "" {
				if options.KV, err = streamFormat(dev, kvType); err != nil {
					return err
				}
			}
			options.Device = dev
			status, bar := newStatusLine(), newProgressBar("loading", 0)
			options.Loading, options.Progress = bar.report, status.show
			out := &tableWriter{out: cmd.OutOrStdout()}
			options.FitPrompt = !cmd.Flags().Changed("prompt")
			if !asJSON {
				options.Started = func(r *inproc.ModelReport) { bar.clear(); printModelHead(out, r) }
				options.Row = func(r inproc.Row) { status.clear(); printModelRow(out, &r) }
			}
			report, err := inproc.Model(cmd.Context(), options)
			bar.clear()
			status.clear()
			switch {
			case err != nil:
				return benchRefusal(err)
			case asJSON:
				return printJSON(out, report)
			}
			printModelFoot(out, report)
			return out.err
		},
	}
	flags := command.Flags()
	flags.StringVarP(&options.Path, "model", "m", "", "model file or folder (default: the embedded model)")
	flags.IntVarP(&options.Prompt, "prompt", "p", 512, "tokens of the prompt; 0: no prefill; fewer by default where the model's context is shorter")
	flags.IntVarP(&options.Generate, "generate", "n", 64, "tokens that each sequence generates; 0: no decode")
	flags.IntSliceVarP(&options.Batches, "batch", "b", []int{1}, "numbers of sequences that decode at once, separated by commas")
	flags.IntSliceVar(&options.Depths, "ctx", []int{0}, "tokens in the cache before a test, separated by commas")
	flags.IntVar(&options.Repeat, "repeat", 3, "measures of each row, of which the median counts")
	flags.IntVar(&options.MaxBatchTokens, "max-batch-tokens", 512, "most tokens computed in one step")
	flags.StringVar(&kvType, "kv-type", "", "format of the cache: f32, f16, bf16 or q8_0 (default: f32 for a float32 model; else q8_0 for keys and values of heads, f16 for latents)")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	device.add(flags)
	completeEngine(command)
	return command
}

// validateBenchModel names the flag that is out of range.
func validateBenchModel(o *inproc.ModelOptions) error {
	if o.Prompt == 0 && o.Generate == 0 {
		return errors.New("--prompt and --generate are both 0: there is nothing to measure")
	}
	return checkFlags([]numbersFlag{
		{"prompt", 0, inproc.MaxTokens, []int{o.Prompt}}, {"generate", 0, inproc.MaxTokens, []int{o.Generate}},
		{"batch", 1, inproc.MaxSequences, o.Batches}, {"ctx", 0, inproc.MaxTokens, o.Depths},
		{"repeat", 1, inproc.MaxRepeat, []int{o.Repeat}}, {"max-batch-tokens", 1, inproc.MaxBatchTokens, []int{o.MaxBatchTokens}},
	})
}

// numbersFlag is a flag of one or more numbers.
type numbersFlag struct {
	name        string
	least, most int
	values      []int
}

// checkFlags names the flag that is out of range; options have zero values of their own, which flags have not.
func checkFlags(flags []numbersFlag) error {
	for _, f := range flags {
		if len(f.values) == 0 {
			return fmt.Errorf("--%s is empty", f.name)
		}
		for _, v := range f.values {
			if v < f.least || v > f.most {
				return fmt.Errorf("--%s: %d, want %d to %d", f.name, v, f.least, f.most)
			}
		}
	}
	return nil
}

func printModelHead(out io.Writer, r *inproc.ModelReport) {
	fmt.Fprintf(out, "model   %s (%s), %s of weights, cache of %s\n", orUnknown(r.Model), r.Architecture, formatBytes(uint64(r.WeightBytes)), r.KV)
	fmt.Fprintf(out, "device  %s, %s, %s\n", r.Device, r.Level, plural(r.Threads, "thread"))
	fmt.Fprintf(out, "load    %s%s\n\n", time.Duration(r.LoadSeconds*float64(time.Second)).Round(time.Millisecond), atMost(", ", r.LoadPeakRSS))
	fmt.Fprintf(out, "%-8s %6s %5s %9s %17s %9s %6s %9s %7s %8s %7s %8s   %6s %6s\n", "test", "depth", "seqs", "t/s", "lowest - highest",
		"ms/step", "loop", "MB/step", "GB/s", "of read", "GOPS", "of peak", "read", "int8")
}

func printModelRow(out io.Writer, r *inproc.Row) {
	test := "pp"
	if r.Test == "decode" {
		test = "tg"
	}
	fmt.Fprintf(out, "%-8s %6d %5d %9.2f %8.2f-%8.2f %9.2f %6s %9.1f %7.2f %8s %7.1f %8s   %6.1f %6.0f\n", fmt.Sprint(test, r.Tokens), r.Depth, r.Sequences,
		r.Rate, r.Lowest, r.Highest, 1e3*r.StepSeconds, percent(r.LoopShare), r.Bytes/1e6, r.ReadRate/1e9, percent(r.ReadShare),
		r.OpsRate/1e9, percent(r.ComputeShare), r.Bounds.ReadBytes/1e9, r.Bounds.Peak(hardware.Int8)/1e9)
}

func printModelFoot(out io.Writer, r *inproc.ModelReport) {
	fmt.Fprintf(out, "\nlimits of this machine, measured with the last row\n")
	printBounds(out, &r.Rows[len(r.Rows)-1].Bounds)
	fmt.Fprint(out, atMost("", r.PeakRSS), "\n")
}

// atMost writes a peak of memory behind a separator, and nothing where the system does not tell it.
func atMost(separator string, bytes int64) string {
	if bytes == 0 {
		return ""
	}
	return fmt.Sprintf("%sat most %s of memory", separator, formatBytes(uint64(bytes)))
}
