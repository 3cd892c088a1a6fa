package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// progressBar draws how much of a number of bytes is done on one line of a terminal. On anything else it is silent. Its
// methods are safe for concurrent use.
type progressBar struct {
	label  string
	total  int64
	width  int                   // of the terminal; 0: silent
	amount func(n uint64) string // writes an amount; bytes unless it counts something else

	mu    sync.Mutex // guards the rest
	out   io.Writer
	done  int64
	start time.Time
	drawn time.Time
}

// redraw is the time between two drawings.
const redraw = 100 * time.Millisecond

// newProgressBar returns a bar on standard error.
func newProgressBar(label string, total int64) *progressBar {
	return &progressBar{label: label, total: total, width: terminalWidth(os.Stderr), amount: formatBytes, out: os.Stderr, start: time.Now()}
}

// unknownWidth is taken for the width of a terminal that does not say it: serial lines, and what scripts open.
const unknownWidth = 80

// terminalWidth returns the columns of a terminal, 0 when f is none.
func terminalWidth(f *os.File) int {
	fd := int(f.Fd())
	if !term.IsTerminal(fd) {
		return 0
	}
	if width, _, err := term.GetSize(fd); err == nil && width > 0 {
		return width
	}
	return unknownWidth
}

// add counts bytes that are done.
func (p *progressBar) add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set(p.done + n)
}

// report sets both numbers, as callbacks give them.
func (p *progressBar) report(done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total = total
	p.set(done)
}

func (p *progressBar) set(done int64) {
	p.done = done
	now := time.Now()
	if p.width == 0 || p.total <= 0 || now.Sub(p.drawn) < redraw && done < p.total {
		return
	}
	p.drawn = now
	fmt.Fprintf(p.out, "\r\x1b[K%s", p.line(now.Sub(p.start)))
}

// line is the text of the bar.
func (p *progressBar) line(elapsed time.Duration) string {
	fraction := min(float64(p.done)/float64(p.total), 1)
	text := fmt.Sprintf("%s %3.0f%%  %s of %s", p.label, 100*fraction, p.amount(uint64(p.done)), p.amount(uint64(p.total)))
	if elapsed > time.Second {
		text += fmt.Sprintf("  %s/s", p.amount(uint64(float64(p.done)/elapsed.Seconds())))
	}
	if cells := min(p.width-len(text)-4, 40); cells >= 10 {
		filled := int(fraction * float64(cells))
		text += "  " + strings.Repeat("█", filled) + strings.Repeat("░", cells-filled)
	}
	return text
}

// clear removes the bar from the terminal.
func (p *progressBar) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.drawn.IsZero() {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}

// loadProgress shows how far a model is loaded: as a bar on a terminal, and otherwise, for loads that take long, as lines
// in the log. Its report is called by one goroutine at a time.
type loadProgress struct {
	bar    *progressBar
	logger *slog.Logger
	model  string
	now    func() time.Time
	start  time.Time
	logged time.Time
}

// logEvery is the time between two lines about the same load.
const logEvery = 5 * time.Second

// newLoadProgress shows the loading of a model. A log of JSON is for machines, so there is no bar between its lines.
func newLoadProgress(model string, logger *slog.Logger) *loadProgress {
	p := &loadProgress{bar: newProgressBar("loading "+model, 0), logger: logger, model: model, now: time.Now}
	if _, machine := logger.Handler().(*slog.JSONHandler); machine {
		p.bar.width = 0
	}
	p.start = p.now()
	p.logged = p.start
	return p
}

func (p *loadProgress) report(done, total int64) {
	p.bar.report(done, total)
	now := p.now()
	if p.bar.width > 0 || now.Sub(p.logged) < logEvery {
		return
	}
	p.logged = now
	rate := float64(done) / now.Sub(p.start).Seconds()
	p.logger.Info("loading model", "model", p.model, "done", joined(formatBytes(uint64(done))), "of", joined(formatBytes(uint64(total))),
		"per_second", joined(formatBytes(uint64(rate))))
}

// end removes the bar.
func (p *loadProgress) end() { p.bar.clear() }
