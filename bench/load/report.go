package load

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Report is the outcome of a run; its JSON form is stable.
type Report struct {
	Target       string   `json:"target"`
	Protocol     Protocol `json:"protocol"`
	Model        string   `json:"model"`
	PromptTokens int      `json:"prompt_tokens"` // asked for
	MaxTokens    int      `json:"max_tokens"`
	SharedPrefix float64  `json:"shared_prefix"`
	Seed         uint64   `json:"seed"`
	Levels       []Level  `json:"levels"`
}

// Level is what was measured at one level of concurrency.
type Level struct {
	Concurrency  int     `json:"concurrency"`
	Requests     int     `json:"requests"` // answered in full
	Errors       int     `json:"errors"`
	Seconds      float64 `json:"seconds"` // from the first request to the last answer
	PromptTokens int     `json:"prompt_tokens"`
	CachedTokens int     `json:"cached_tokens"` // of the prompt tokens, as the server reports
	OutputTokens int     `json:"output_tokens"`

	RequestsPerSecond     float64 `json:"requests_per_second"`
	OutputTokensPerSecond float64 `json:"output_tokens_per_second"`
	TotalTokensPerSecond  float64 `json:"total_tokens_per_second"` // prompt and output

	TTFT Latency `json:"ttft_ms"`
	ITL  Latency `json:"itl_ms"`
	TPOT Latency `json:"tpot_ms"`
	E2E  Latency `json:"e2e_ms"`

	Failures []Failure `json:"failures"` // what went wrong, most frequent first
}

// Latency is a distribution in milliseconds.
type Latency struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
}

// Failure is an error and how often it happened.
type Failure struct {
	Error string `json:"error"`
	Count int    `json:"count"`
}

func newReport(o *Options) *Report {
	return &Report{
		Target: o.Target, Protocol: o.Protocol, Model: o.Model, PromptTokens: o.PromptTokens, MaxTokens: o.MaxTokens,
		SharedPrefix: o.SharedPrefix, Seed: o.Seed, Levels: []Level{},
	}
}

// histogram counts microseconds, exact to three digits, up to an hour.
type histogram struct{ h *hdrhistogram.Histogram }

func newHistogram() histogram {
	return histogram{hdrhistogram.New(1, time.Hour.Microseconds(), 3)}
}

// record adds a duration n times; what is beyond an hour counts as an hour.
func (h histogram) record(d time.Duration, n int64) {
	us := min(max(d.Microseconds(), 1), h.h.HighestTrackableValue())
	if err := h.h.RecordValues(us, n); err != nil {
		panic("load: a clamped value is out of the histogram's range: " + err.Error())
	}
}

func (h histogram) latency() Latency {
	if h.h.TotalCount() == 0 {
		return Latency{}
	}
	ms := func(q float64) float64 { return float64(h.h.ValueAtQuantile(q)) / 1000 }
	return Latency{Count: h.h.TotalCount(), Mean: h.h.Mean() / 1000, P50: ms(50), P90: ms(90), P99: ms(99), Max: float64(h.h.Max()) / 1000}
}

// collector gathers the answers of one level. It is safe for concurrent use.
type collector struct {
	mu                   sync.Mutex // guards all fields
	sum                  Level
	ttft, itl, tpot, e2e histogram
	failures             map[string]int
}

func newCollector(concurrency int) *collector {
	return &collector{
		sum: Level{Concurrency: concurrency}, failures: map[string]int{},
		ttft: newHistogram(), itl: newHistogram(), tpot: newHistogram(), e2e: newHistogram(),
	}
}

func (c *collector) add(a answer, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.sum.Errors++
		c.failures[err.Error()]++
		return
	}
	c.sum.Requests++
	c.sum.PromptTokens += a.promptTokens
	c.sum.CachedTokens += a.cachedTokens
	c.sum.OutputTokens += a.outputTokens
	c.ttft.record(a.pieces[0].Sub(a.sent), 1)
	c.e2e.record(a.end.Sub(a.sent), 1)
	last := a.pieces[len(a.pieces)-1]
	if a.outputTokens > 1 {
		c.tpot.record(last.Sub(a.pieces[0])/time.Duration(a.outputTokens-1), 1)
	}
	if gaps := len(a.pieces) - 1; gaps > 0 {
		perPiece := max(float64(a.outputTokens-1)/float64(gaps), 1)
		for i := range gaps {
			gap := a.pieces[i+1].Sub(a.pieces[i])
			c.itl.record(time.Duration(float64(gap)/perPiece), max(int64(perPiece+0.5), 1))
		}
	}
}

func (c *collector) level(took time.Duration) Level {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.sum
	l.Seconds = took.Seconds()
	l.RequestsPerSecond = float64(l.Requests) / l.Seconds
	l.OutputTokensPerSecond = float64(l.OutputTokens) / l.Seconds
	l.TotalTokensPerSecond = float64(l.PromptTokens+l.OutputTokens) / l.Seconds
	l.TTFT, l.ITL, l.TPOT, l.E2E = c.ttft.latency(), c.itl.latency(), c.tpot.latency(), c.e2e.latency()
	l.Failures = []Failure{}
	for text, n := range c.failures {
		l.Failures = append(l.Failures, Failure{text, n})
	}
	slices.SortFunc(l.Failures, func(a, b Failure) int {
		if a.Count != b.Count {
			return b.Count - a.Count
		}
		return strings.Compare(a.Error, b.Error)
	})
	return l
}

// Errors is the number of failed requests of all levels.
func (r *Report) Errors() int {
	n := 0
	for _, l := range r.Levels {
		n += l.Errors
	}
	return n
}

// WriteTable prints the report for people.
func (r *Report) WriteTable(out io.Writer) error {
	fmt.Fprintf(out, "%s (%s), model %s: prompts of about %d tokens of seed %d, %d tokens each\n\n",
		r.Target, r.Protocol, r.Model, r.PromptTokens, r.Seed, r.MaxTokens)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "concurrency\trequests\terrors\treq/s\toutput tok/s\ttotal tok/s\tcached\tTTFT p50 ms\tTTFT p99 ms\tITL p50 ms\tITL p99 ms\tE2E p50 ms\tE2E p99 ms\t")
	for _, l := range r.Levels {
		cached := 0.0
		if l.PromptTokens > 0 {
			cached = 100 * float64(l.CachedTokens) / float64(l.PromptTokens)
		}
		fmt.Fprintf(w, "%d\t%d\t%d\t%.2f\t%.1f\t%.1f\t%.0f%%\t%.1f\t%.1f\t%.2f\t%.2f\t%.1f\t%.1f\t\n", l.Concurrency, l.Requests, l.Errors,
			l.RequestsPerSecond, l.OutputTokensPerSecond, l.TotalTokensPerSecond, cached,
			l.TTFT.P50, l.TTFT.P99, l.ITL.P50, l.ITL.P99, l.E2E.P50, l.E2E.P99)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, l := range r.Levels {
		for _, f := range l.Failures {
			if _, err := fmt.Fprintf(out, "concurrency %d: %d × %s\n", l.Concurrency, f.Count, f.Error); err != nil {
				return err
			}
		}
	}
	return nil
}
