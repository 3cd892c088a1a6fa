package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"hearth/bench/inproc"
	"hearth/engine"
)

func newBenchSpeculateCommand() *cobra.Command {
	var (
		device  deviceFlags
		draft   draftFlags
		options inproc.SpeculateOptions
		asJSON  bool
	)
	command := &cobra.Command{
		Use:   "speculate [-m MODEL]",
		Short: "Measure what guessing tokens does to the speed of answers",
		Long: `Writes texts of -n tokens without guesses, with them and without again, and compares. The answers have to be the same.

  edit        repeats a text that the request says is expected, with every 24th token another one
  repetition  one token again and again
  greedy      what the model writes after a random prompt
  random      random tokens: nothing is found to guess
  misleading  random tokens of six: all that is guessed occurred before, and goes on otherwise

  plain, guessed   tokens per second of all sequences together, the medians
  ratio            of the two, the median, and the lowest and the highest
  drafted          guesses checked for each token; accepted: those of them that were right`,
		Example: "  hearth bench speculate\n  hearth bench speculate -m model.gguf -n 128 --repeat 5",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := validateBenchSpeculate(&options); err != nil {
				return err
			}
			if err := draft.validate(); err != nil {
				return err
			}
			dev, err := device.open(warnings(cmd.ErrOrStderr()))
			if err != nil {
				return err
			}
			defer dev.Close()
			options.Device, options.Mode, options.MaxDraft = dev, engine.Speculate(draft.speculate), int(draft.most)
			options.Draft = draft.path
			status, bar := newStatusLine(), newProgressBar("loading", 0)
			options.Loading, options.Progress = bar.report, status.show
			out := &tableWriter{out: cmd.OutOrStdout()}
			if !asJSON {
				head := sync.OnceFunc(func() { printSpeculateHead(out) })
				options.Row = func(r inproc.SpeculateRow) { bar.clear(); status.clear(); head(); printSpeculateRow(out, &r) }
			}
			rows, err := inproc.Speculate(cmd.Context(), options)
			bar.clear()
			status.clear()
			switch {
			case err != nil:
				return benchRefusal(err)
			case asJSON:
				return printJSON(out, rows)
			}
			return out.err
		},
	}
	flags := command.Flags()
	flags.StringVarP(&options.Path, "model", "m", "", "model file or folder (default: the embedded model)")
	flags.IntVarP(&options.Generate, "generate", "n", 256, "tokens of each answer")
	flags.IntVarP(&options.Sequence, "batch", "b", 1, "answers written at once")
	flags.IntVar(&options.Repeat, "repeat", 5, "answers with guesses between two without, of which the median counts")
	flags.StringSliceVar(&options.Texts, "text", nil, "kinds of text, separated by commas (default: all)")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	device.add(flags)
	draft.add(flags)
	completeDevice(command)
	completeDraft(command)
	complete(command, "text", inproc.SpeculateTexts()...)
	return command
}

func validateBenchSpeculate(o *inproc.SpeculateOptions) error {
	err := checkFlags([]numbersFlag{
		{"generate", 2, inproc.MaxTokens, []int{o.Generate}}, {"repeat", 1, inproc.MaxRepeat, []int{o.Repeat}},
		{"batch", 1, inproc.MaxSequences, []int{o.Sequence}},
	})
	if err != nil {
		return err
	}
	for _, text := range o.Texts {
		if known := inproc.SpeculateTexts(); !slices.Contains(known, text) {
			return fmt.Errorf("--text: %q is none of %s", text, strings.Join(known, ", "))
		}
	}
	return nil
}

func printSpeculateHead(out io.Writer) {
	fmt.Fprintf(out, "%-11s %10s %10s %7s %15s %8s %9s\n", "text", "plain", "guessed", "ratio", "lowest - highest", "drafted", "accepted")
}

func printSpeculateRow(out io.Writer, r *inproc.SpeculateRow) {
	fmt.Fprintf(out, "%-11s %10.2f %10.2f %7.3f %8.3f-%7.3f %8.2f %9s\n", r.Text, r.Plain, r.Guessed, r.Ratio, r.Lowest, r.Highest,
		r.Drafted, percent(r.Acceptance))
}
