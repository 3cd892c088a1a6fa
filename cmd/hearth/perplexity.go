package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"hearth/engine"
	"hearth/engine/model"
	"hearth/engine/tokenizer"
	"hearth/hardware"
	"hearth/hardware/quant"
)

// perplexityOptions are the flags of perplexity.
type perplexityOptions struct {
	device        deviceFlags
	model, file   string
	context       int
	stride        int
	windows       int
	kvType        string
	reference     string
	referenceKV   string
	saveLogits    string
	force         bool
	json          bool
	kv, kvOfOther *quant.Format
}

// defaultWindow is what others cut texts into, so that figures can be compared.
const defaultWindow = 512

func newPerplexityCommand() *cobra.Command {
	var o perplexityOptions
	command := &cobra.Command{
		Use:   "perplexity --model M --file T",
		Short: "Measure how well a model predicts a text, and how far it is from another",
		Long: `Cuts a text into windows of --ctx tokens and has the model predict the second half of each from what stands before it in
the window. Perplexity is the exponential of the mean negative log-likelihood of these tokens; the figures can be compared
with those of other tools that count this way on the same text. With --stride the windows begin every so many tokens and
their last ones are predicted, each from nearly a whole window: the better measure of long contexts, and a slower one.

With --kl-reference the predictions are compared, token by token, with those of another model of the same vocabulary, or
with logits that --save-logits kept: the Kullback-Leibler divergence from the reference shows what quantization costs long
before perplexity does. The same model with another --reference-kv-type shows what a format of the cache costs.

Errors behind ± are standard errors, as if the tokens were independent.`,
		Example: "  hearth perplexity --model model-q4_k_m.gguf --file wiki.test.raw\n" +
			"  hearth perplexity --model model-q4_k_m.gguf --file wiki.test.raw --kl-reference model-f16.gguf\n" +
			"  hearth perplexity --model model.gguf --file wiki.test.raw --kv-type q8_0 --kl-reference model.gguf\n" +
			"  hearth perplexity --model model-f16.gguf --file wiki.test.raw --windows 20 --save-logits f16.logits",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			device, err := o.device.open(warnings(cmd.ErrOrStderr()))
			if err != nil {
				return err
			}
			defer device.Close()
			if cmd.Flags().Changed("reference-kv-type") && o.reference == "" {
				return errors.New("--reference-kv-type: there is no reference without --kl-reference")
			}
			if err := o.check(device); err != nil {
				return err
			}
			text, err := readText(o.file, cmd.InOrStdin())
			if err != nil {
				return fmt.Errorf("--file: %w", err)
			}
			r, err := perplexity(cmd.Context(), &o, device, text)
			switch {
			case err != nil:
				return refusal(err)
			case o.json:
				return printJSON(cmd.OutOrStdout(), r)
			}
			return r.print(cmd.OutOrStdout())
		},
	}
	flags := command.Flags()
	flags.StringVarP(&o.model, "model", "m", "", "model file or folder (default: the embedded model)")
	flags.StringVarP(&o.file, "file", "f", "", "text to predict, UTF-8; - reads standard input")
	flags.IntVar(&o.context, "ctx", 0, "tokens of a window (default: 512, or the model's context where that is shorter)")
	flags.IntVar(&o.stride, "stride", 0, "tokens between the beginnings of windows, of which the last so many are predicted (default: no overlap)")
	flags.IntVar(&o.windows, "windows", 0, "most windows (default: all of the text)")
	flags.StringVar(&o.kvType, "kv-type", "f32", "format of the cache: f32, f16, bf16 or q8_0")
	flags.StringVar(&o.reference, "kl-reference", "", "model, or file of saved logits, to compare with")
	flags.StringVar(&o.referenceKV, "reference-kv-type", "f32", "format of the reference's cache")
	flags.StringVar(&o.saveLogits, "save-logits", "", "file to keep the logits in: 4 bytes for each predicted token and element of the vocabulary")
	flags.BoolVar(&o.force, "force", false, "replace the file of --save-logits if it is there")
	flags.BoolVar(&o.json, "json", false, "print JSON")
	flags.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "kv" {
			name = "kv-type"
		}
		return pflag.NormalizedName(name)
	})
	o.device.add(flags)
	completeEngine(command)
	complete(command, "reference-kv-type", "f32", "f16", "bf16", "q8_0")
	return command
}

// check refuses flags that contradict each other, and finds the formats.
func (o *perplexityOptions) check(device hardware.Device) (err error) {
	switch {
	case o.file == "":
		return errors.New("--file is missing")
	case o.context < 0 || o.context > 0 && o.context < 4:
		return fmt.Errorf("--ctx: %d, want at least 4", o.context)
	case o.stride < 0:
		return fmt.Errorf("--stride: %d is negative", o.stride)
	case o.windows < 0:
		return fmt.Errorf("--windows: %d is negative", o.windows)
	case o.saveLogits != "" && !o.force && exists(o.saveLogits):
		return fmt.Errorf("--save-logits: %s is there already; --force replaces it", o.saveLogits)
	}
	if o.kv, err = streamFormat(device, o.kvType); err != nil {
		return err
	}
	if o.kvOfOther, err = streamFormat(device, o.referenceKV); err != nil {
		return fmt.Errorf("--reference-kv-type: %w", err)
	}
	return nil
}

// maxTextBytes bounds what is read into memory; usual texts have a megabyte or two.
const maxTextBytes = 256 << 20

// readText reads a file, or standard input.
func readText(path string, stdin io.Reader) (string, error) {
	in := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxTextBytes+1))
	switch {
	case err != nil:
		return "", err
	case len(data) > maxTextBytes:
		return "", fmt.Errorf("%s has more than %s", path, formatBytes(maxTextBytes))
	case !utf8.Valid(data):
		return "", fmt.Errorf("%s is not UTF-8", path)
	}
	return string(data), nil
}

// perplexityReport is what perplexity shows; its JSON is an interface that scripts rely on.
type perplexityReport struct {
	Model           string  `json:"model"`
	File            string  `json:"file"`
	KVType          string  `json:"kv_type"`
	ReferenceModel  string  `json:"reference_model,omitempty"`
	ReferenceKVType string  `json:"reference_kv_type,omitempty"` // empty for saved logits
	Window          int     `json:"window"`
	Stride          int     `json:"stride"` // 0: the second half of each window is predicted
	Seconds         float64 `json:"seconds"`
	*engine.PerplexityReport
}

// scoredModel is a model ready to be scored.
type scoredModel struct {
	model *model.Model
	tok   *tokenizer.Tokenizer
}

// loadScored opens a model and its tokenizer, hands them to use, and closes the file afterwards.
func loadScored(path string, use func(s *scoredModel) error) error {
	src, err := engine.OpenSource(path)
	if err != nil {
		return err
	}
	defer src.Close()
	m, err := model.Load(src)
	if err != nil {
		return err
	}
	tok, err := engine.OpenTokenizer(src)
	if err != nil {
		return err
	}
	return use(&scoredModel{m, tok})
}

// perplexity runs the command.
func perplexity(ctx context.Context, o *perplexityOptions, device hardware.Device, content string) (*perplexityReport, error) {
	start := time.Now()
	r := &perplexityReport{Model: modelArg{path: o.model}.label(), File: o.file, KVType: o.kv.Name, Stride: o.stride}
	var text *engine.Text
	var scorer *engine.Scorer
	err := loadScored(o.model, func(s *scoredModel) (err error) {
		if r.Window, err = o.window(&s.model.Config); err != nil {
			return err
		}
		if text, err = engine.NewText(s.tok, content, o.textOptions(r.Window)); err != nil {
			return err
		}
		scorer, err = newScorer(ctx, s.model, device, o.kv, text)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer scorer.Close()
	options := engine.PerplexityOptions{}
	if o.reference != "" {
		reference, err := o.openReference(ctx, device, content, text, r)
		if err != nil {
			return nil, fmt.Errorf("--kl-reference: %w", err)
		}
		defer reference.Close()
		options.Reference = reference
	}
	if o.saveLogits != "" {
		name := fmt.Sprintf("%s, cache of %s", r.Model, o.kv)
		if options.Save, err = engine.CreateLogits(o.saveLogits, name, text, scorer.VocabSize()); err != nil {
			return nil, fmt.Errorf("--save-logits: %w", err)
		}
		defer options.Save.Close()
	}
	bar := newProgressBar("predicting", 0)
	bar.amount = func(n uint64) string { return plural(int(n), "token") }
	options.Progress = func(done, all int) { bar.report(int64(done), int64(all)) }
	r.PerplexityReport, err = engine.Perplexity(ctx, text, scorer, options)
	bar.clear()
	if err == nil && options.Save != nil {
		err = options.Save.Commit()
	}
	r.Seconds = time.Since(start).Seconds()
	return r, err
}

// window returns the tokens of a window.
func (o *perplexityOptions) window(c *model.Config) (int, error) {
	if o.context > c.ContextLength {
		return 0, fmt.Errorf("--ctx: %d is beyond the %d positions that the model was trained for", o.context, c.ContextLength)
	}
	if o.context > 0 {
		return o.context, nil
	}
	return min(defaultWindow, c.ContextLength), nil
}

func (o *perplexityOptions) textOptions(window int) engine.TextOptions {
	return engine.TextOptions{Window: window, Stride: o.stride, MaxWindows: o.windows}
}

// newScorer loads a model with a progress bar.
func newScorer(ctx context.Context, m *model.Model, device hardware.Device, kv *quant.Format, text *engine.Text) (*engine.Scorer, error) {
	bar := newProgressBar("loading", 0)
	defer bar.clear()
	return engine.NewScorer(ctx, m, engine.ScorerOptions{
		Device: device, KV: kv, MaxLen: text.Window, Loading: bar.report,
	})
}

// closingRows are rows of logits that are closed after use.
type closingRows interface {
	engine.LogitRows
	Close() error
}

// openReference opens what --kl-reference names.
func (o *perplexityOptions) openReference(ctx context.Context, device hardware.Device, content string, text *engine.Text, r *perplexityReport) (closingRows, error) {
	if engine.IsLogitsFile(o.reference) {
		file, err := engine.OpenLogits(o.reference, text)
		if err != nil {
			return nil, err
		}
		r.ReferenceModel = file.Name
		return file, nil
	}
	r.ReferenceModel, r.ReferenceKVType = modelArg{path: o.reference}.label(), o.kvOfOther.Name
	var scorer *engine.Scorer
	err := loadScored(o.reference, func(s *scoredModel) error {
		own, err := engine.NewText(s.tok, content, o.textOptions(text.Window))
		if err != nil {
			return err
		}
		if err := text.Same(own); err != nil {
			return err
		}
		scorer, err = newScorer(ctx, s.model, device, o.kvOfOther, text)
		return err
	})
	return scorer, err
}

// print shows the report to people.
func (r *perplexityReport) print(out io.Writer) error {
	table := &tableWriter{out: out}
	w := tabwriter.NewWriter(table, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	row("model", "%s, cache of %s", oneLine(r.Model), r.KVType)
	windows := fmt.Sprintf("%s of %d tokens", plural(r.Windows, "window"), r.Window)
	if r.Stride > 0 {
		windows += fmt.Sprintf(", one every %d", r.Stride)
	}
	row("text", "%s, %s, %d predicted", oneLine(r.File), windows, r.Predicted)
	printScores(row, &r.Scores)
	if d := r.Divergence; d != nil {
		name := oneLine(r.ReferenceModel)
		if r.ReferenceKVType != "" {
			name += ", cache of " + r.ReferenceKVType
		}
		fmt.Fprintln(w)
		row("reference", "%s", name)
		printScores(row, r.Reference)
		row("nll difference", "%.3g ± %.2g", d.NLLDifference.Mean, d.NLLDifference.Error)
		row("KL divergence", "%.4g ± %.2g mean", d.Mean.Mean, d.Mean.Error)
		row("", "%.3g median, %.3g 90%%, %.3g 99%%, %.3g 99.9%%, %.3g largest", d.Median, d.P90, d.P99, d.P999, d.Max)
		row("same top token", "%s%%", plusMinus(engine.Estimate{Mean: 100 * d.SameTop.Mean, Error: 100 * d.SameTop.Error}, 2))
		row("probabilities", "%.3g%% root mean square difference, of the text's tokens", 100*d.RMSProbability)
	}
	w.Flush()
	fmt.Fprintf(table, "\n%s, %.1f tokens per second\n", time.Duration(r.Seconds*float64(time.Second)).Round(100*time.Millisecond),
		float64(r.Windows*r.Window)/r.Seconds)
	return table.err
}

func printScores(row func(name, format string, args ...any), s *engine.Scores) {
	row("perplexity", "%s", plusMinus(s.Perplexity, 4))
	row("nll", "%s", plusMinus(s.NLL, 6))
	row("top token", "%s%% of the text's", plusMinus(engine.Estimate{Mean: 100 * s.Top.Mean, Error: 100 * s.Top.Error}, 2))
}

// plusMinus writes an estimate with a number of digits.
func plusMinus(e engine.Estimate, digits int) string {
	return fmt.Sprintf("%.*f ± %.*f", digits, e.Mean, digits, e.Error)
}
