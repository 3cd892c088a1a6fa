package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// run is one point being shown.
type run struct {
	opts    *options
	report  *pointReport
	servers []*server // that were started, to be stopped in the end
}

// pointReport is what a point found.
type pointReport struct {
	Point    int      `json:"point"`
	Name     string   `json:"name"`
	Seconds  float64  `json:"seconds"`
	Figures  []figure `json:"figures"`
	Failures []string `json:"failures"`
}

// figure is one measured value.
type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// figure notes a measured value and prints it.
func (r *run) figure(value float64, unit, format string, args ...any) {
	f := figure{fmt.Sprintf(format, args...), value, unit}
	r.report.Figures = append(r.report.Figures, f)
	fmt.Printf("   %-68s %s\n", f.Name, f)
}

// String writes the value with as many digits as it deserves.
func (f figure) String() string {
	switch {
	case f.Value == float64(int64(f.Value)):
		return fmt.Sprintf("%12d %s", int64(f.Value), f.Unit)
	case f.Value >= 100:
		return fmt.Sprintf("%12.0f %s", f.Value, f.Unit)
	}
	return fmt.Sprintf("%12.4g %s", f.Value, f.Unit)
}

// milliseconds notes a duration.
func (r *run) milliseconds(d time.Duration, format string, args ...any) {
	r.figure(float64(d.Microseconds())/1000, "ms", format, args...)
}

// require notes a promise that is not kept.
func (r *run) require(ok bool, format string, args ...any) {
	if !ok {
		r.report.Failures = append(r.report.Failures, fmt.Sprintf(format, args...))
	}
}

// requireTime notes a promise that is not kept about time, or about what is done because it takes less: a server computes what
// it could read where that is faster. With the counts of every commit, which may run beside anything, it is printed and no more.
func (r *run) requireTime(ok bool, format string, args ...any) {
	if ok || !r.opts.short {
		r.require(ok, format, args...)
		return
	}
	fmt.Printf("   slow: "+format+"\n", args...)
}

// stopAll ends what still runs.
func (r *run) stopAll() {
	for _, s := range r.servers {
		s.kill()
	}
}

// folder returns a new folder for data; its name says what for.
func (r *run) folder(name string) (string, error) {
	return os.MkdirTemp(r.opts.work, fmt.Sprintf("point%d-%s-", r.report.Point, name))
}

// model is a model file and what a server needs to be told about it.
type model struct {
	name   string
	path   string // empty: the embedded one
	length int    // of its context
}

// embeddedModel is trained, so that its text makes sense.
var embeddedModel = model{name: "stories260k", length: 512}

// synth returns a model of random weights, which is made once. Its vocabulary is one of bytes, so that a text of n
// characters has n tokens.
func (r *run) synth(ctx context.Context, arch, size string, length int) (model, error) {
	m := model{name: arch + "-" + size, length: length}
	m.path = filepath.Join(r.opts.work, fmt.Sprintf("%s-%d.gguf", m.name, length))
	if _, err := os.Stat(m.path); err == nil {
		return m, nil
	}
	command := exec.CommandContext(ctx, r.opts.hearth, "synth", "--arch", arch, "--size", size, "--quant", "q8_0", "--ctx", fmt.Sprint(length), "--out", m.path)
	if out, err := command.CombinedOutput(); err != nil {
		return m, fmt.Errorf("%s: %w: %s", strings.Join(command.Args, " "), err, out)
	}
	return m, nil
}

// percentile returns the value below which a share of the durations lies. It sorts them.
func percentile(list []time.Duration, share float64) time.Duration {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[min(int(share*float64(len(list))), len(list)-1)]
}

// prose returns n characters of text that differ with the seed: words, so that nothing finds it odd.
func prose(seed uint64, n int) string {
	words := []string{"ash", "bellows", "coal", "draught", "ember", "flame", "grate", "hearth", "iron", "kindling", "lintel", "mantel", "oven", "poker"}
	var b strings.Builder
	for state := seed; b.Len() < n; {
		state = state*6364136223846793005 + 1442695040888963407 // a linear congruential generator (Knuth, MMIX)
		b.WriteString(words[state>>33%uint64(len(words))])
		b.WriteByte(' ')
	}
	return b.String()[:n]
}
