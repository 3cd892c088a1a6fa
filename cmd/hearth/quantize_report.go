package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"hearth/engine/weights"
)

// quantizeReport is what quantize shows; its JSON is an interface that scripts rely on.
type quantizeReport struct {
	In            string            `json:"in"`
	Out           string            `json:"out"`
	Type          string            `json:"type"` // "Q4_K_M"
	DryRun        bool              `json:"dry_run"`
	Kept          int               `json:"kept"` // tensors that an earlier run had finished
	Seconds       float64           `json:"seconds"`
	Parameters    int64             `json:"parameters"`
	BytesBefore   int64             `json:"bytes_before"` // of tensors
	BytesAfter    int64             `json:"bytes_after"`
	BitsPerWeight float64           `json:"bits_per_weight"`
	FileBytes     int64             `json:"file_bytes"`
	Types         []quantizedType   `json:"types"`
	Fallbacks     []quantizedShape  `json:"fallbacks"` // where a type's blocks did not divide the rows
	Tensors       []quantizedTensor `json:"tensors"`
}

// quantizedType sums up the tensors of a type.
type quantizedType struct {
	Type       string `json:"type"`
	Tensors    int    `json:"tensors"`
	Parameters int64  `json:"parameters"`
	Bytes      int64  `json:"bytes"`
	lossReport
	moved weights.RoundingError
}

// quantizedShape counts tensors that got another type than the mix has for them.
type quantizedShape struct {
	Wanted  string `json:"wanted"`
	Type    string `json:"type"`
	Columns int    `json:"columns"` // of the tensors' rows
	Tensors int    `json:"tensors"`
}

type quantizedTensor struct {
	Name  string `json:"name"`
	Shape []int  `json:"shape"` // row-major
	From  string `json:"from"`
	Type  string `json:"type"`
	Bytes int64  `json:"bytes"`
	lossReport
}

// lossReport is how far weights moved; all are 0 before they have.
type lossReport struct {
	RMSE     float64 `json:"rmse"`      // root of the mean squared error
	Relative float64 `json:"relative"`  // the same over the root mean square of the weights
	MaxError float64 `json:"max_error"` // largest error of a weight
}

func newLossReport(e weights.RoundingError) lossReport {
	return lossReport{e.RMSE(), e.Relative(), e.Max}
}

// fill describes a conversion, done or planned.
func (r *quantizeReport) fill(c *weights.Conversion) {
	r.FileBytes = c.Size()
	r.Types, r.Fallbacks, r.Tensors = []quantizedType{}, []quantizedShape{}, []quantizedTensor{}
	for _, t := range c.Tensors() {
		r.BytesBefore += t.SourceBytes
		r.BytesAfter += t.Bytes
		r.Parameters += t.Elements()
		r.Tensors = append(r.Tensors, quantizedTensor{t.Name, t.Shape, t.From, t.TypeName(), t.Bytes, newLossReport(t.Error)})
		r.count(&t)
	}
	for i := range r.Types {
		r.Types[i].lossReport = newLossReport(r.Types[i].moved)
	}
	slices.SortStableFunc(r.Types, func(a, b quantizedType) int { return cmp.Compare(b.Parameters, a.Parameters) })
	if r.Parameters > 0 {
		r.BitsPerWeight = 8 * float64(r.BytesAfter) / float64(r.Parameters)
	}
}

// count adds a tensor to those of its type.
func (r *quantizeReport) count(t *weights.Converted) {
	i := slices.IndexFunc(r.Types, func(k quantizedType) bool { return k.Type == t.TypeName() })
	if i < 0 {
		i = len(r.Types)
		r.Types = append(r.Types, quantizedType{Type: t.TypeName()})
	}
	k := &r.Types[i]
	k.Tensors++
	k.Parameters += t.Elements()
	k.Bytes += t.Bytes
	k.moved.Add(t.Error)
	if t.Wanted == nil {
		return
	}
	shape := quantizedShape{Wanted: t.Wanted.Name, Type: t.TypeName(), Columns: t.Shape[len(t.Shape)-1]}
	i = slices.IndexFunc(r.Fallbacks, func(s quantizedShape) bool {
		s.Tensors = 0
		return s == shape
	})
	if i < 0 {
		i = len(r.Fallbacks)
		r.Fallbacks = append(r.Fallbacks, shape)
	}
	r.Fallbacks[i].Tensors++
}

// print shows the report to people: every tensor if asked for, then the types, then a line about the file.
func (r *quantizeReport) print(out io.Writer, tensors bool) error {
	table := &tableWriter{out: out}
	w := tabwriter.NewWriter(table, 0, 0, 2, ' ', 0)
	if tensors {
		fmt.Fprintf(w, "TENSOR\tSHAPE\tFROM\tTO\tBYTES%s\n", r.lossHead())
		for _, t := range r.Tensors {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s%s\n", oneLine(t.Name), shapeText(t.Shape), t.From, t.Type, formatBytes(uint64(t.Bytes)), r.loss(&t.lossReport))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "TYPE\tTENSORS\tPARAMETERS\tBYTES%s\n", r.lossHead())
	for _, t := range r.Types {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s%s\n", t.Type, t.Tensors, formatCount(t.Parameters), formatBytes(uint64(t.Bytes)), r.loss(&t.lossReport))
	}
	w.Flush()
	fmt.Fprintln(table)
	for _, s := range r.Fallbacks {
		fmt.Fprintf(table, "%s in place of %s: %s with rows of %d\n", s.Type, s.Wanted, plural(s.Tensors, "tensor"), s.Columns)
	}
	verb := "would be written"
	if !r.DryRun {
		verb = fmt.Sprintf("written in %s", time.Duration(r.Seconds*float64(time.Second)).Round(100*time.Millisecond))
		if r.Kept > 0 {
			verb += fmt.Sprintf(", %s of which an earlier run had finished", plural(r.Kept, "tensor"))
		}
	}
	fmt.Fprintf(table, "%s: %s parameters, %s in place of %s, %.2f bits per weight, %s\n", r.Out, formatCount(r.Parameters),
		formatBytes(uint64(r.BytesAfter)), formatBytes(uint64(r.BytesBefore)), r.BitsPerWeight, verb)
	return table.err
}

// lossHead and loss are the columns that only a file that was written has.
func (r *quantizeReport) lossHead() string {
	if r.DryRun {
		return ""
	}
	return "\tRMSE\tRELATIVE\tLARGEST"
}

func (r *quantizeReport) loss(l *lossReport) string {
	if r.DryRun {
		return ""
	}
	return fmt.Sprintf("\t%.3g\t%.3g%%\t%.3g", l.RMSE, 100*l.Relative, l.MaxError)
}

// shapeText writes a shape as people do.
func shapeText(shape []int) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(shape), "[]"), " ", " × ")
}
