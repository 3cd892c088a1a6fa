package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"hearth/bench/inproc"
)

func TestBenchModelPrintsJSON(t *testing.T) {
	out, err := execute(t, "bench", "model", "-p", "8", "-n", "4", "-b", "1,2", "--ctx", "0,64", "--repeat", "1", "--threads", "1", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var report inproc.ModelReport
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatal(err)
	}
	if len(report.Rows) != 6 || report.Threads != 1 {
		t.Errorf("%d rows, want 2 of prefill and 4 of decode: %+v", len(report.Rows), report)
	}
}

func TestBenchModelPrintsTable(t *testing.T) {
	out, err := execute(t, "bench", "model", "-p", "8", "-n", "4", "--repeat", "1", "--threads", "1")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"stories260k", "\npp8 ", "\ntg4 ", "of read", "at most "} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// TestBenchModelFitsPrompt runs the command as it is: the embedded model's context is shorter than the usual prompt.
func TestBenchModelFitsPrompt(t *testing.T) {
	out, err := execute(t, "bench", "model", "-n", "0", "--repeat", "1")
	if err != nil || !strings.Contains(out, "\npp511 ") {
		t.Errorf("bench model returns %v and no prefill of 511 tokens:\n%s", err, out)
	}
}

// TestBenchModelOfStates measures models whose sequences have state, behind depths on both sides of the distance at which
// states are kept on the way. Several repeats take turns with the states that are kept. A prefill computes its prompt alone.
func TestBenchModelOfStates(t *testing.T) {
	for _, synth := range [][]string{{"--arch", "qwen35", "--mtp"}, {"--arch", "deepseek4"}} {
		t.Run(synth[1], func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "tiny.gguf")
			if _, err := execute(t, append([]string{"synth", "--size", "tiny", "--out", path}, synth...)...); err != nil {
				t.Fatal(err)
			}
			const tokens = 64
			out, err := execute(t, "bench", "model", "-m", path, "-p", fmt.Sprint(tokens), "-n", "4", "-b", "3",
				"--ctx", "1024,4096", "--repeat", "3", "--json")
			if err != nil {
				t.Fatal(err)
			}
			var report inproc.ModelReport
			if err := json.Unmarshal([]byte(out), &report); err != nil {
				t.Fatal(err)
			}
			if len(report.Rows) != 4 {
				t.Errorf("%d rows, want 2 of prefill and 2 of decode", len(report.Rows))
			}
			for _, r := range report.Rows {
				least, most := r.Lowest*r.StepSeconds, r.Highest*r.StepSeconds // around the tokens of a step
				if r.Test == "prefill" && (least > tokens || most < tokens) {
					t.Errorf("depth %d: a step computed %g to %g tokens, want %d", r.Depth, least, most, tokens)
				}
			}
		})
	}
}

func TestTableWriterKeepsFirstError(t *testing.T) {
	w := &tableWriter{out: io.Discard}
	fmt.Fprint(w, "all is well")
	if w.err != nil {
		t.Fatal(w.err)
	}
	_, closed := io.Pipe()
	closed.CloseWithError(io.ErrShortWrite)
	w.out = closed
	fmt.Fprint(w, "lost")
	w.out = io.Discard
	if n, err := fmt.Fprint(w, "more"); n != 0 || !errors.Is(err, w.err) || w.err == nil {
		t.Errorf("after a failed write another returns %d, %v, want none and %v", n, err, w.err)
	}
}

func TestBenchRefuses(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"model -p 0 -n 0", "--prompt and --generate"},
		{"model -p -1", "--prompt: -1"},
		{"model -n 99999999", "--generate: 99999999"},
		{"model -b 1,0", "--batch: 0"},
		{"model -b x", "-b, --batch: \"x\" is not a number"},
		{"model -b 1,99999999999999999999", "-b, --batch: \"99999999999999999999\" is out of range"},
		{"model -p 1.5", "-p, --prompt: \"1.5\" is not a number; see 'hearth bench model --help'"},
		{"model --json=x", "--json: \"x\" is neither true nor false"},
		{"model --ctx -64", "--ctx: -64"},
		{"model --ctx 100000", "--ctx"},
		{"model -p 513", "--prompt, --generate, --ctx: engine: context length 514"},
		{"model -b 1024 --ctx 1000000 -n 1000000", "--ctx"},
		{"model --repeat 0", "--repeat: 0"},
		{"model --max-batch-tokens 0", "--max-batch-tokens: 0"},
		{"model --kv-type q9", "--kv-type: \"q9\""},
		{"model --kv-type q4_k", "--kv-type: \"q4_k\""},
		{"model --device gorgonia", "gorgonia cannot measure"},
		{"model -m absent.gguf", "absent.gguf"},
		{"model --isa mmx", "mmx"},
		{"speculate --max-draft 0", "want 1 to 63"},
		{"speculate --draft absent.gguf --speculate mtp", "--draft: a draft model is not used with --speculate mtp"},
		{"kernels --op conv", "--op: \"conv\""},
		{"kernels --format q9", "--format: \"q9\""},
		{"kernels --op attention --format q4_k", "--format: inproc: option Formats has Q4_K, attention wants some of F32, F16"},
		{"kernels surplus", "\"surplus\" for \"hearth bench kernels\"; see 'hearth bench kernels --help'"},
		{"modle", "\"modle\" for \"hearth bench\"; see 'hearth bench --help'"},
	} {
		if _, err := execute(t, append([]string{"bench"}, strings.Fields(c.args)...)...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("bench %s returns %v, want an error with %q", c.args, err, c.want)
		}
	}
}

func TestBenchSpeculate(t *testing.T) {
	out, err := execute(t, "bench", "speculate", "-n", "20", "--repeat", "1", "--threads", "1", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []inproc.SpeculateRow
	if err := json.Unmarshal([]byte(out), &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 5 || rows[0].Plain == 0 || rows[0].Guessed == 0 {
		t.Errorf("%+v", rows)
	}
}
