package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// print shows a report to people, its verdict last.
func (r *report) print(out io.Writer, tensors bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	row("model", "%s", r.Path)
	if r.Name != "" {
		row("name", "%s", oneLine(r.Name))
	}
	row("format", "%s, %d tensors", r.Format, len(r.Tensors))
	row("architecture", "%s", orUnknown(oneLine(r.Architecture)))
	row("parameters", "%s, most of them %s", formatCount(r.Parameters), orUnknown(r.Quantization))
	if h := r.Hyperparameters; h != nil {
		h.rows(row)
	}
	r.Memory.rows(row, r.Hyperparameters)
	if r.Problem != "" {
		row("problem", "%s", visible(r.Problem))
	}
	r.Memory.printLayers(w)
	fmt.Fprintf(w, "\nTYPE\tTENSORS\tPARAMETERS\tBYTES\n")
	for _, t := range r.Types {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", t.Type, t.Tensors, formatCount(t.Parameters), formatBytes(uint64(t.Bytes)))
	}
	fmt.Fprintf(w, "\nKEY\tTYPE\tVALUE\n")
	for _, k := range r.Metadata {
		fmt.Fprintf(w, "%s\t%s\t%s\n", oneLine(k.Key), k.Type, k.text())
	}
	if tensors {
		r.printTensors(w)
	}
	if r.Check != nil {
		fmt.Fprintln(w, "\n"+r.Check.verdict())
	}
	return w.Flush()
}

// verdict is a line about the check; the error itself is the command's.
func (c *checkReport) verdict() string {
	switch {
	case !c.OK:
		return "check: failed"
	case c.Note != "":
		return "check: hyperparameters, tensors and weights are good; " + c.Note
	}
	return "check: hyperparameters, tensors, tokenizer, chat template and weights are good"
}

func (r *report) printTensors(w io.Writer) {
	fmt.Fprintf(w, "\nTENSOR\tTYPE\tSHAPE\tBYTES\n")
	for _, t := range r.Tensors {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", oneLine(t.Name), t.Type, shapeText(t.Shape), formatBytes(uint64(t.Bytes)))
	}
}

func (h *hyperparameters) rows(row func(name, format string, args ...any)) {
	row("layers", "%d of width %d", h.NumLayers, h.HiddenSize)
	row("attention", "%d query heads and %d key-value heads of %d", h.NumHeads, h.NumKVHeads, h.HeadDim)
	if h.NumExperts > 0 {
		row("feed-forward", "%d of %d experts of %d", h.NumExpertsPerTok, h.NumExperts, h.ExpertFFNSize)
	} else {
		row("feed-forward", "%d", h.FFNSize)
	}
	row("vocabulary", "%d", h.VocabSize)
	scaling := ""
	if h.RopeScaling != "" {
		scaling = ", " + h.RopeScaling + " scaling"
	}
	row("context", "%d positions, rotary base %s%s", h.ContextLength, strconv.FormatFloat(h.RopeTheta, 'f', -1, 64), scaling)
}

// text shows a value on one line.
func (k *keyReport) text() string {
	if k.Length == nil {
		return oneLine(fmt.Sprint(k.Value))
	}
	elements := k.Value.([]any)
	parts := make([]string, len(elements))
	for i, e := range elements {
		if s, ok := e.(string); ok {
			parts[i] = fmt.Sprintf("%q", s)
		} else {
			parts[i] = fmt.Sprint(e)
		}
	}
	if *k.Length > len(elements) {
		parts = append(parts, "…")
	}
	return fmt.Sprintf("%d: [%s]", *k.Length, cut(strings.Join(parts, ", ")))
}

// oneLine makes text from a file safe for a terminal: no control characters, and not longer than a line.
func oneLine(text string) string {
	quoted := fmt.Sprintf("%q", cut(text))
	return quoted[1 : len(quoted)-1]
}

// shownBytes is the most of a text that is shown.
const shownBytes = 100

// cut shortens a text at a character.
func cut(text string) string {
	if len(text) <= shownBytes {
		return text
	}
	return strings.ToValidUTF8(text[:shownBytes], "") + "…"
}

// formatCount writes a number as people say it: 596 M.
func formatCount(n int64) string {
	value, unit := float64(n), ""
	for _, u := range []string{" K", " M", " B", " T"} {
		if value < 1000 {
			break
		}
		value, unit = value/1000, u
	}
	if unit == "" {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%.3g%s", value, unit)
}
