package cpu_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"hearth/hardware"
	"hearth/hardware/cpu"
	"hearth/hardware/quant"
)

// wideProgram records a look-up and products with weights of several megabytes: a table that is also the head, a matrix,
// and a norm. Of each weight, bytes gives the data.
func wideProgram(bytes func(name string, f *quant.Format, out, in int) hardware.WeightInfo) *hardware.Program {
	p := hardware.NewProgram("wide")
	weight := func(name string, f *quant.Format, out, in int) hardware.Weight {
		return p.Weight(bytes(name, f, out, in))
	}
	table := weight("table", quant.Q8_0, 8000, 256)
	p.Section("trunk")
	x := p.Embed(table)
	p.MatMulAdd(x, p.Norm(x, weight("norm", quant.F32, 1, 256), 1e-6), weight("matrix", quant.F16, 256, 256))
	p.Output("logits", p.MatMul(p.Gather(x), table))
	return p
}

func wideLimits() hardware.Limits {
	return hardware.Limits{Tokens: 4, Spans: 1, Outputs: 1, Blocks: 1, MaxLen: 64}
}

// TestLoadReleases checks that every byte of the weights is given back, each once, and only while the others are whole.
func TestLoadReleases(t *testing.T) {
	var mu sync.Mutex // guards released
	released := map[string]int{}
	total := 0
	p := wideProgram(func(name string, f *quant.Format, out, in int) hardware.WeightInfo {
		w := hardware.WeightInfo{Name: name, Format: f, Out: out, In: in}
		w.Data = make([]byte, w.Bytes())
		total += w.Bytes()
		w.Release = func(read []byte) {
			mu.Lock()
			defer mu.Unlock()
			released[name] += len(read)
			for i := range read { // from here on the bytes may be anything
				read[i] = 0xff
			}
		}
		return w
	})
	d := openWith(cpu.Options{Threads: 2})(t)
	defer d.Close()
	q, err := d.Load(context.Background(), p, wideLimits())
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	sum := 0
	for i := range p.NumWeights() {
		w := p.WeightAt(i)
		if released[w.Name] != w.Bytes() {
			t.Errorf("of weight %s, %d bytes of %d were released", w.Name, released[w.Name], w.Bytes())
		}
		sum += released[w.Name]
	}
	if sum != total {
		t.Errorf("%d bytes were released, the weights have %d", sum, total)
	}
	b := hardware.NewBatch(wideLimits())
	b.Tokens, b.Outputs, b.Spans = append(b.Tokens, 3), append(b.Outputs, 0), append(b.Spans, hardware.Span{Len: 1})
	b.Tables = append(b.Tables, 0)
	q.Run(0, b)
	if i := slices.IndexFunc(q.Output(0, 0), func(v float32) bool { return v != 0 }); i >= 0 {
		t.Errorf("weights of zeros give the logit %v: they were read after they were released", q.Output(0, 0)[i])
	}
}

// TestLoadForms checks that weights whose experts lie apart, and those that are read row by row, become what they are in
// one piece.
func TestLoadForms(t *testing.T) {
	const experts, out, in = 3, 40, 64
	run := func(form string) []float32 {
		p := hardware.NewProgram("stack")
		weight := func(name string, out, in, experts int) hardware.Weight {
			w := hardware.WeightInfo{Name: name, Format: quant.F32, Out: out, In: in, Experts: experts}
			data := make([]byte, w.Bytes())
			values := make([]float32, len(data)/4)
			for i := range values {
				values[i] = float32((i*7+len(name))%23-11) / 16
			}
			quant.F32.Quantize(data, values)
			rowBytes := 4 * in
			switch {
			case form == "apart" && experts > 0:
				for part := range slices.Chunk(data, len(data)/experts) {
					w.Stack = append(w.Stack, bytes.Clone(part))
				}
			case form == "read":
				w.Read = func(dst []byte, expert, first, last int) error {
					if n := copy(dst, data[(expert*out+first)*rowBytes:(expert*out+last)*rowBytes]); n != len(dst) {
						t.Errorf("weight %s: rows %d to %d are %d bytes, want %d", name, first, last, n, len(dst))
					}
					return nil
				}
			default:
				w.Data = data
			}
			return p.Weight(w)
		}
		p.Section("trunk")
		table := weight("table", 8, in, 0)
		x, y := p.Embed(table), p.Embed(table)
		p.ExpertsAdd(hardware.ExpertsArgs{
			X: x, Dst: y, Routes: p.Route(hardware.RouteArgs{Logits: p.MatMul(x, weight("router", experts, in, 0)), TopK: 2}),
			Gate: weight("gate", out, in, experts), Up: weight("up", out, in, experts), Down: weight("down", in, out, experts), Act: hardware.SiLU,
		})
		p.Output("y", p.Gather(y))
		d := openWith(cpu.Options{Threads: 1})(t)
		defer d.Close()
		q, err := d.Load(context.Background(), p, wideLimits())
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		b := hardware.NewBatch(wideLimits())
		b.Tokens, b.Outputs, b.Spans = append(b.Tokens, 5), append(b.Outputs, 0), append(b.Spans, hardware.Span{Len: 1})
		b.Tables = append(b.Tables, 0)
		q.Run(0, b)
		return slices.Clone(q.Output(0, 0))
	}
	for _, form := range []string{"apart", "read"} {
		if got, want := run(form), run("whole"); !slices.Equal(got, want) {
			t.Errorf("%s: %v, in one piece %v", form, got, want)
		}
	}
}

// TestLoadWithoutData checks that a weight without its bytes, or whose bytes cannot be read, is named, and that the memory
// is given back.
func TestLoadWithoutData(t *testing.T) {
	const free = 1 << 30
	d := openWith(cpu.Options{Threads: 2, FreeBytes: free})(t)
	defer d.Close()
	for form, read := range map[string]func([]byte, int, int, int) error{
		"no bytes": nil,
		"cut off":  func([]byte, int, int, int) error { return errors.New("cut off") },
	} {
		p := wideProgram(func(name string, f *quant.Format, out, in int) hardware.WeightInfo {
			w := hardware.WeightInfo{Name: name, Format: f, Out: out, In: in, Read: read}
			if name != "matrix" {
				w.Data, w.Read = make([]byte, w.Bytes()), nil
			}
			return w
		})
		if _, err := d.Load(context.Background(), p, wideLimits()); err == nil || !strings.Contains(err.Error(), `"matrix"`) {
			t.Errorf("%s: Load = %v, want an error that names the matrix", form, err)
		}
		if n := d.Info().FreeBytes; n != free {
			t.Errorf("%s: %d bytes are free afterwards, want %d", form, n, free)
		}
	}
}

// TestLoadStopsBetweenPieces cancels in the middle of packing.
func TestLoadStopsBetweenPieces(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	p := wideProgram(func(name string, f *quant.Format, out, in int) hardware.WeightInfo {
		w := hardware.WeightInfo{Name: name, Format: f, Out: out, In: in, Release: func([]byte) { cancel() }}
		w.Data = make([]byte, w.Bytes())
		return w
	})
	const free = 1 << 30
	d := openWith(cpu.Options{Threads: 1, FreeBytes: free})(t)
	defer d.Close()
	l := wideLimits()
	l.Progress = func(done, total int64) {
		if done == total {
			t.Error("everything was packed")
		}
	}
	if _, err := d.Load(ctx, p, l); !errors.Is(err, context.Canceled) {
		t.Errorf("Load = %v, want that its context ended", err)
	}
	if n := d.Info().FreeBytes; n != free {
		t.Errorf("%d bytes are free afterwards, want %d", n, free)
	}
}
