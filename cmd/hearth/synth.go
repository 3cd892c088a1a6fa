package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"hearth/engine/weights"
)

// synthOptions are the flags of synth.
type synthOptions struct {
	arch, size, quant string
	out               string
	tokenizer         string
	context           int
	seed              uint64
	force             bool // replace the file
}

func newSynthCommand() *cobra.Command {
	var o synthOptions
	command := &cobra.Command{
		Use:   "synth --arch A --size S --quant Q --out F.gguf",
		Short: "Write a model of published shape with random weights",
		Long: `Writes a GGUF file with the shape of a published model and random weights, for measuring speed and memory without
downloading anything: the work per token is that of the real model, the text is noise. The vocabulary comes from a
tokenizer.json, with the settings and chat template of a tokenizer_config.json beside it, or is a built-in one of bytes.`,
		Example: "  hearth synth --arch qwen3 --size 0.6b --quant q4_k_m --out qwen3-0.6b.gguf\n" +
			"  hearth synth --arch llama --size 8b --quant q8_0 --tokenizer llama/tokenizer.json --out llama-8b.gguf",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
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

// synthesize writes the file and returns a line about it.
func synthesize(ctx context.Context, o synthOptions) (string, error) {
	shape, err := findShape(o.arch, o.size)
	if err != nil {
		return "", err
	}
	recipe, ok := weights.RecipeByName(o.quant)
	switch {
	case !ok:
		return "", fmt.Errorf("--quant: unknown format %q; known are %s", o.quant, strings.Join(weights.RecipeNames(), ", "))
	case o.out == "":
		return "", fmt.Errorf("--out is missing")
	case o.context < 0:
		return "", fmt.Errorf("--ctx: %d is negative", o.context)
	case o.context > 0:
		shape.context = o.context
	}
	if _, err := os.Lstat(o.out); err == nil && !o.force {
		return "", fmt.Errorf("--out: %s is there already; --force replaces it", o.out)
	}
	vocabulary := builtinVocabulary()
	if o.tokenizer != "" {
		if vocabulary, err = readVocabulary(o.tokenizer); err != nil {
			return "", fmt.Errorf("--tokenizer: %w", err)
		}
	}
	shape.vocab = max(shape.vocab, (len(vocabulary.tokens)+63)/64*64)
	md := shape.metadata(recipe)
	vocabulary.describe(md, shape.vocab)
	tensors := shape.tensors()
	for i, format := range recipe.Assign(shape.recipeModel(), tensors) {
		if format != nil {
			tensors[i].Type, tensors[i].Format = format.ID, format
		}
	}
	return writeSynthetic(newWeightGenerator(ctx, o.seed, &shape), o.out, md, tensors)
}

// writeSynthetic writes the file with a progress bar.
func writeSynthetic(g *weightGenerator, path string, md *weights.Metadata, tensors []weights.Tensor) (string, error) {
	out := make([]weights.NewTensor, len(tensors))
	var total, parameters int64
	for i, t := range tensors {
		out[i] = weights.NewTensor{Name: t.Name, Type: t.Type, Shape: t.Shape, Write: g.writer(t, uint64(i))}
		size, err := out[i].Size()
		if err != nil {
			return "", err
		}
		total += size
		parameters += t.Elements()
	}
	g.bar = newProgressBar("writing", total)
	err := weights.SaveGGUF(path, md, out)
	g.bar.clear()
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s: %s parameters, %s", path, formatCount(parameters), formatBytes(uint64(info.Size()))), nil
}
