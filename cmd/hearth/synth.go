package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"hearth/engine/model"
	"hearth/engine/weights"
	"hearth/hardware"
)

// synthOptions are the flags of synth.
type synthOptions struct {
	arch, size, quant string
	out               string
	tokenizer         string
	context           int
	layers            int  // of the published ones the first; 0: all
	predict           bool // with the block that predicts further tokens
	seed              uint64
	force             bool // replace the file
	plan              bool // write nothing, and show what would be in the file
}

func newSynthCommand() *cobra.Command {
	var o synthOptions
	command := &cobra.Command{
		Use:   "synth --arch A --size S --quant Q --out F.gguf",
		Short: "Write a model of published shape with random weights",
		Long: `Writes a GGUF file with the shape of a published model and random weights, for measuring speed and memory without
downloading anything: the work per token is that of the real model, the text is noise. The vocabulary comes from a
tokenizer.json, with the settings and chat template of a tokenizer_config.json beside it, or is a built-in one of bytes.

With --layers the model has only the first layers of the published one, so that a large one can be measured on a small
machine. With --plan nothing is written: the file is shown as inspect would, with the memory that the model needs.`,
		Example: "  hearth synth --arch qwen3 --size 0.6b --quant q4_k_m --out qwen3-0.6b.gguf\n" +
			"  hearth synth --arch llama --size 8b --quant q8_0 --tokenizer llama/tokenizer.json --out llama-8b.gguf\n" +
			"  hearth synth --arch qwen35 --size 35b-a3b --layers 8 --quant q4_k_m --out eighth.gguf\n" +
			"  hearth synth --arch deepseek --size v3 --quant q4_k_m --plan",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.plan {
				return planSynthetic(cmd.Context(), o, cmd.OutOrStdout())
			}
			summary, err := synthesize(cmd.Context(), o)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), summary)
			return err
		},
	}
	flags := command.Flags()
	flags.StringVar(&o.arch, "arch", "qwen3", "architecture: "+strings.Join(synthArchitectures(), ", "))
	flags.StringVar(&o.size, "size", "0.6b", "published size: "+synthSizes())
	flags.StringVar(&o.quant, "quant", "q8_0", "format: "+strings.Join(weights.RecipeNames(), ", "))
	flags.StringVar(&o.out, "out", "", "GGUF file to write")
	flags.BoolVar(&o.force, "force", false, "replace the file if it is there")
	flags.StringVar(&o.tokenizer, "tokenizer", "", "tokenizer.json with the vocabulary (default: a built-in one of bytes)")
	flags.IntVar(&o.layers, "layers", 0, "number of layers, the first of the published ones (default: all)")
	flags.BoolVar(&o.predict, "mtp", false, "with the block that predicts further tokens, where the published model has one")
	flags.BoolVar(&o.plan, "plan", false, "write nothing, and show what the file would hold and need")
	flags.IntVar(&o.context, "ctx", 0, "context length (default: the published one)")
	flags.Uint64Var(&o.seed, "seed", 0, "seed of the weights")
	complete(command, "arch", synthArchitectures()...)
	complete(command, "quant", weights.RecipeNames()...)
	sizes := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return synthSizesOf(o.arch), cobra.ShellCompDirectiveNoFileComp
	}
	if err := command.RegisterFlagCompletionFunc("size", sizes); err != nil {
		panic("cmd: " + err.Error())
	}
	return command
}

// synthetic is a file to be written.
type synthetic struct {
	path       string
	md         *weights.Metadata
	tensors    []weights.NewTensor
	generator  *weightGenerator
	parameters int64
	bytes      int64
}

// newSynthetic decides what is in the file.
func newSynthetic(ctx context.Context, o synthOptions) (*synthetic, error) {
	shape, err := findShape(o.arch, o.size)
	if err != nil {
		return nil, err
	}
	recipe, ok := weights.RecipeByName(o.quant)
	switch {
	case !ok:
		return nil, fmt.Errorf("--quant: unknown format %q; known are %s", o.quant, strings.Join(weights.RecipeNames(), ", "))
	case o.context < 0 || o.context > model.MaxContext:
		return nil, fmt.Errorf("--ctx: %d, want 1 to %d, or 0 for the published length", o.context, model.MaxContext)
	case o.layers < 0 || o.layers > shape.layers:
		return nil, fmt.Errorf("--layers: %d, the model has %d", o.layers, shape.layers)
	}
	if o.predict {
		if !shape.predicts {
			return nil, fmt.Errorf("--mtp: %s %s has no block that predicts further tokens", shape.arch, shape.size)
		}
		shape.blocks = 1
	}
	shape.context = cmp.Or(o.context, shape.context)
	shape.layers = cmp.Or(o.layers, shape.layers)
	vocabulary := builtinVocabulary()
	if o.tokenizer != "" {
		if vocabulary, err = readVocabulary(o.tokenizer); err != nil {
			return nil, fmt.Errorf("--tokenizer: %w", err)
		}
	}
	shape.vocab = max(shape.vocab, (len(vocabulary.tokens)+63)/64*64)
	f := &synthetic{path: o.out, md: shape.metadata(recipe), generator: newWeightGenerator(ctx, o.seed, &shape)}
	vocabulary.describe(f.md, shape.vocab)
	tensors := shape.tensors()
	for i, format := range recipe.Assign(shape.recipeModel(), tensors) {
		t := &tensors[i]
		if format != nil {
			t.Type, t.Format = format.ID, format
		}
		n := weights.NewTensor{Name: t.Name, Type: t.Type, Shape: t.Shape, Write: f.generator.writer(*t, uint64(i))}
		size, err := n.Size()
		if err != nil {
			return nil, err
		}
		f.tensors = append(f.tensors, n)
		f.bytes += size
		f.parameters += t.Elements()
	}
	return f, nil
}

// planSynthetic shows what the file would be.
func planSynthetic(ctx context.Context, o synthOptions, out io.Writer) error {
	f, err := newSynthetic(ctx, o)
	if err != nil {
		return err
	}
	f.generator.bar = newProgressBar("", 0)
	src, err := weights.Outline(cmp.Or(o.out, "planned"), f.md, f.tensors)
	if err != nil {
		return err
	}
	return newReport(src).print(out, false)
}

// fits returns an error when the tensors alone are more than the free bytes of the disk, 0 where they are not known. A file
// that is replaced stays until the new one is whole, so its bytes do not count as free.
func (f *synthetic) fits(free uint64) error {
	if free > 0 && uint64(f.bytes) > free {
		return fmt.Errorf("--out: %s takes %s, %s are free on the disk", f.path, formatBytes(uint64(f.bytes)), formatBytes(free))
	}
	return nil
}

// synthesize writes the file with a progress bar, and returns a line about it.
func synthesize(ctx context.Context, o synthOptions) (string, error) {
	if o.out == "" {
		return "", fmt.Errorf("--out is missing")
	}
	if _, err := os.Lstat(o.out); err == nil && !o.force {
		return "", fmt.Errorf("--out: %s is there already; --force replaces it", o.out)
	}
	f, err := newSynthetic(ctx, o)
	if err != nil {
		return "", err
	}
	if err := f.fits(hardware.FreeDisk(filepath.Dir(f.path))); err != nil {
		return "", err
	}
	f.generator.bar = newProgressBar("writing", f.bytes)
	err = weights.SaveGGUF(f.path, f.md, f.tensors)
	f.generator.bar.clear()
	if err != nil {
		return "", err
	}
	info, err := os.Stat(f.path)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s: %s parameters, %s", f.path, formatCount(f.parameters), formatBytes(uint64(info.Size()))), nil
}
