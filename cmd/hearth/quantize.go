package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hearth/engine"
	"hearth/engine/model"
	"hearth/engine/weights"
	"hearth/hardware"
	"hearth/hardware/quant"
)

// quantizeOptions are the flags of quantize.
type quantizeOptions struct {
	in, out    string
	recipe     string
	overrides  []string // PATTERN=TYPE
	imatrix    string
	thorough   bool
	requantize bool
	force      bool
	dryRun     bool
	report     bool
	json       bool
	threads    int
}

func newQuantizeCommand() *cobra.Command {
	var o quantizeOptions
	command := &cobra.Command{
		Use:   "quantize IN OUT.gguf --type T",
		Short: "Write a model with smaller weights",
		Long: `Writes the model IN, a GGUF file (also a split one) or a Hugging Face folder, as one GGUF file of a type. The types q4_k_m
and the like are mixes: the tensors that suffer most from few bits get more of them. Vectors, norms, routers and other
small tensors keep their numbers; a type whose blocks do not divide a tensor's rows gives way to another of no fewer bits.
Metadata, tokenizer and chat template are kept.

The file grows as OUT.gguf.partial and is renamed when it is whole. When the command is stopped, the rows that are finished
are kept, and the same command goes on from there; another one refuses to replace them without --force. Memory does not
grow with the model.

Weights that are quantized already lose twice when they are quantized again: quantize from the original model, or say
--allow-requantize. Writing them out as f32, f16 or bf16 is always allowed, and a Hugging Face checkpoint in FP8 or FP4 is
an original.

  type            bits per weight of its main format, and what it is for
  q8_0            8.5, as good as the original
  q6_k            6.6, hardly worse
  q5_k_m, q5_k_s  5.5
  q4_k_m, q4_k_s  4.5, the usual choice
  q4_0, iq4_nl …  4.5, one format for nearly all tensors
  q3_k_m, q2_k …  where memory is short: measure with hearth perplexity
  mxfp4_moe       experts in MXFP4, the rest in Q8_0
  bf16, f16, f32  not quantized`,
		Example: "  hearth quantize Qwen3-8B/ qwen3-8b-q4_k_m.gguf --type q4_k_m\n" +
			"  hearth quantize model-f16.gguf model-q6_k.gguf --type q6_k --report\n" +
			"  hearth quantize model.gguf out.gguf --type q4_k_m --tensor 'blk.*.attn_k.weight=q8_0' --imatrix imatrix.gguf",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.in, o.out = args[0], args[1]
			return quantize(cmd.Context(), &o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := command.Flags()
	flags.StringVar(&o.recipe, "type", "", "type to write: "+strings.Join(weights.RecipeNames(), ", "))
	flags.StringArrayVar(&o.overrides, "tensor", nil, "type of single tensors, as PATTERN=TYPE, where * stands for anything; may be repeated, the first that matches counts")
	flags.StringVar(&o.imatrix, "imatrix", "", "importance matrix, a GGUF file: how much each column matters")
	flags.BoolVar(&o.thorough, "thorough", false, "search longer for the best blocks: smaller errors than the usual ones, in more time")
	flags.BoolVar(&o.requantize, "allow-requantize", false, "quantize weights that are quantized already")
	flags.BoolVar(&o.force, "force", false, "replace OUT if it is there, and an OUT.partial of another command")
	flags.BoolVar(&o.dryRun, "dry-run", false, "show what would be written")
	flags.BoolVar(&o.report, "report", false, "list every tensor with its error (JSON always does)")
	flags.BoolVar(&o.json, "json", false, "print JSON")
	flags.IntVar(&o.threads, "threads", 0, "worker threads (default: as many as processors)")
	complete(command, "type", weights.RecipeNames()...)
	return command
}

// quantize runs the command.
func quantize(ctx context.Context, o *quantizeOptions, out, notes io.Writer) error {
	options, err := o.convertOptions()
	if err != nil {
		return err
	}
	if _, err := os.Lstat(o.out); err == nil && !o.force && !o.dryRun {
		return fmt.Errorf("%s is there already; --force replaces it", o.out)
	}
	src, err := engine.OpenSource(o.in)
	if err != nil {
		return err
	}
	defer src.Close()
	if err := checkOutline(src); err != nil {
		return err
	}
	if src.Origin() == weights.HuggingFace {
		note, err := completeFolder(src, &options)
		if err != nil {
			return err
		}
		if note != "" {
			fmt.Fprintln(notes, "hearth:", note)
		}
	}
	bar := newProgressBar("quantizing", 0)
	options.Progress = bar.report
	var conversion *weights.Conversion
	options.Resuming = func(earlier weights.Finished) {
		fmt.Fprintln(notes, "hearth: going on from", finishedText(conversion, earlier))
	}
	if conversion, err = weights.PlanConversion(src, options); err != nil {
		return quantizeRefusal(err)
	}
	r := &quantizeReport{In: o.in, Out: o.out, Type: options.Recipe.Name, DryRun: o.dryRun}
	start := time.Now()
	if !o.dryRun {
		r.Kept, err = conversion.Save(ctx, o.out)
		bar.clear()
		if err != nil {
			if note := stopNote(conversion, o.out, err); note != "" {
				fmt.Fprintln(notes, "hearth:", note)
			}
			return quantizeRefusal(err)
		}
		r.Seconds = time.Since(start).Seconds()
	}
	r.fill(conversion)
	if o.json {
		return printJSON(out, r)
	}
	return r.print(out, o.report || o.dryRun)
}

// stopNote says what is kept of a conversion that an error or a signal ended; it is empty where there is nothing to say.
func stopNote(c *weights.Conversion, out string, err error) string {
	finished := c.Finished()
	switch {
	case finished.Bytes > 0:
		return fmt.Sprintf("finished are %s; they stay in %s, and the same command goes on from there",
			finishedText(c, finished), weights.PartialPath(out))
	case errors.Is(err, context.Canceled):
		return "nothing was finished yet, and nothing is kept"
	}
	return ""
}

// finishedText writes how much of a conversion is done: "3 of 310 tensors, 345 MiB of 1.11 GiB".
func finishedText(c *weights.Conversion, f weights.Finished) string {
	var total int64
	for _, t := range c.Tensors() {
		total += t.SourceBytes
	}
	return fmt.Sprintf("%d of %s, %s of %s", f.Tensors, plural(len(c.Tensors()), "tensor"), formatBytes(uint64(f.Bytes)), formatBytes(uint64(total)))
}

// checkOutline compares the shapes of the tensors with the configuration, of architectures that are known. Models that are
// sound and cannot be run are converted all the same.
func checkOutline(src weights.Source) error {
	if arch, _ := src.Metadata().String("general.architecture"); !slices.Contains(model.Names(), arch) {
		return nil
	}
	_, err := model.Load(src)
	if errors.Is(err, weights.ErrUnsupported) || errors.Is(err, hardware.ErrUnsupported) {
		return nil
	}
	return err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// convertOptions checks the flags.
func (o *quantizeOptions) convertOptions() (options weights.ConvertOptions, err error) {
	recipe, ok := weights.RecipeByName(o.recipe)
	switch {
	case o.recipe == "":
		return options, fmt.Errorf("--type is missing; known are %s", strings.Join(weights.RecipeNames(), ", "))
	case !ok:
		return options, fmt.Errorf("--type: unknown type %q; known are %s", o.recipe, strings.Join(weights.RecipeNames(), ", "))
	case o.out == "":
		return options, errors.New("the name of the file to write is empty")
	case o.threads < 0:
		return options, fmt.Errorf("--threads: %d is negative", o.threads)
	}
	options = weights.ConvertOptions{Recipe: recipe, Thorough: o.thorough, Requantize: o.requantize, Replace: o.force, Workers: o.threads}
	for _, text := range o.overrides {
		override, err := parseOverride(text)
		if err != nil {
			return options, fmt.Errorf("--tensor: %w", err)
		}
		options.Overrides = append(options.Overrides, override)
	}
	if o.imatrix != "" {
		if options.Importance, err = weights.ReadImportance(o.imatrix); err != nil {
			return options, fmt.Errorf("--imatrix: %w", err)
		}
	}
	return options, nil
}

// parseOverride reads PATTERN=TYPE.
func parseOverride(text string) (weights.Override, error) {
	pattern, name, ok := strings.Cut(text, "=")
	if _, err := path.Match(pattern, ""); !ok || pattern == "" || err != nil {
		return weights.Override{}, fmt.Errorf("%q is not PATTERN=TYPE", text)
	}
	format, ok := quant.ByName(name)
	if !ok || !format.CanQuantize() {
		return weights.Override{}, fmt.Errorf("%q: no type %q can be written; known are %s", text, name, formatNames(writableFormats()))
	}
	return weights.Override{Pattern: pattern, Format: format}, nil
}

// writableFormats lists the formats that tensors of a GGUF file can be given.
func writableFormats() []*quant.Format {
	return slices.DeleteFunc(quant.All(), func(f *quant.Format) bool { return !f.CanQuantize() || f.ID == quant.NoID })
}

// quantizeRefusal names the flag that allows what was refused.
func quantizeRefusal(err error) error {
	if errors.Is(err, weights.ErrRequantize) {
		return fmt.Errorf("%w (quantize from the original model, or use --allow-requantize)", err)
	}
	if errors.Is(err, weights.ErrOccupied) {
		return fmt.Errorf("%w (go on with that command, or replace it with --force)", err)
	}
	return err
}
