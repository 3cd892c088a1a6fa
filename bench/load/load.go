// Package load measures what the users of an inference server feel: the time to the first token, the time between
// tokens, and the throughput, at chosen levels of concurrency. It speaks OpenAI's and Ollama's protocols to any server
// and imports nothing of this project, so that it can be judged, and used, by itself.
//
// # Definitions
//
//   - TTFT is the time from sending a request to the first piece of text.
//   - ITL, the inter-token latency, is the time between two pieces of text divided by the tokens of the later one. Servers may
//     send several tokens in one piece; where the number of pieces and the server's count of tokens differ, the pieces
//     are taken to hold equally many, so that the mean is exact.
//   - TPOT, the time per output token, is (end − first token) / (tokens − 1) of one request.
//   - E2E is the time from sending a request to the end of its answer.
//   - Output throughput is the number of generated tokens by the time from the first request to the last answer.
//
// Token counts are the server's own, from its usage report. A request that ends in an error, or without text, is
// counted as an error and enters no other figure.
package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Protocol is a wire protocol.
type Protocol string

// The protocols.
const (
	OpenAI Protocol = "openai" // POST /v1/chat/completions, server-sent events
	Ollama Protocol = "ollama" // POST /api/chat, JSON lines
)

// Options say what to measure. Target is required; the zero value of everything else works.
type Options struct {
	Target       string        // address of the server, such as "http://127.0.0.1:8080"
	Protocol     Protocol      // "": OpenAI
	Model        string        // "": the first that the server lists
	APIKey       string        // sent as a bearer token, "": none
	Concurrency  []int         // levels, each measured by itself; nil: 1
	Requests     int           // per level; 0: 4 for each concurrent request, at least 10
	Warmup       int           // requests before the first level that are not counted; negative: none; 0: 1
	PromptTokens int           // length of each prompt, as near as words allow; 0: 128
	MaxTokens    int           // tokens to generate for each; 0: 64
	SharedPrefix float64       // part of each prompt that all share, 0 to 1: how much a prefix cache can find
	StopEarly    bool          // let the model end its answers before MaxTokens; Ollama's protocol knows nothing else
	Seed         uint64        // of the prompts
	Timeout      time.Duration // of one request; 0: 10 minutes
	// Progress, when set, is called after every request, from several goroutines.
	Progress func(level, done, total int)
}

// Validate names the first field that is out of range.
func (o *Options) Validate() error {
	switch {
	case o.Target == "":
		return errors.New("load: Target is missing")
	case o.Protocol != "" && o.Protocol != OpenAI && o.Protocol != Ollama:
		return fmt.Errorf("load: Protocol is %q, want %q or %q", o.Protocol, OpenAI, Ollama)
	case o.Requests < 0:
		return fmt.Errorf("load: Requests is %d", o.Requests)
	case o.PromptTokens < 0:
		return fmt.Errorf("load: PromptTokens is %d", o.PromptTokens)
	case o.MaxTokens < 0:
		return fmt.Errorf("load: MaxTokens is %d", o.MaxTokens)
	case !(o.SharedPrefix >= 0 && o.SharedPrefix <= 1):
		return fmt.Errorf("load: SharedPrefix is %v, want 0 to 1", o.SharedPrefix)
	case o.Timeout < 0:
		return fmt.Errorf("load: Timeout is %v", o.Timeout)
	}
	for _, c := range o.Concurrency {
		if c < 1 {
			return fmt.Errorf("load: Concurrency has %d, want at least 1", c)
		}
	}
	return nil
}

func (o Options) withDefaults() Options {
	if o.Protocol == "" {
		o.Protocol = OpenAI
	}
	if len(o.Concurrency) == 0 {
		o.Concurrency = []int{1}
	}
	if o.Warmup == 0 {
		o.Warmup = 1
	}
	if o.PromptTokens == 0 {
		o.PromptTokens = 128
	}
	if o.MaxTokens == 0 {
		o.MaxTokens = 64
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Minute
	}
	return o
}

// requests is the number of requests of a level.
func (o *Options) requests(concurrency int) int {
	if o.Requests > 0 {
		return o.Requests
	}
	return max(4*concurrency, 10)
}

// client sends one request and reports how it went. It is safe for concurrent use.
type client interface {
	// models lists what the server offers.
	models(ctx context.Context) ([]string, error)
	// chat streams one answer.
	chat(ctx context.Context, c call) (answer, error)
}

// call is one request.
type call struct {
	model     string
	prompt    string
	maxTokens int
	stopEarly bool
}

// answer is what came back.
type answer struct {
	sent         time.Time
	pieces       []time.Time // arrival of each piece of text
	end          time.Time
	promptTokens int
	cachedTokens int
	outputTokens int
}

// errNoText says that an answer ended without any text.
var errNoText = errors.New("the answer has no text")

// Run measures every level and returns the report. A server that cannot be reached, or does not offer the model, is an
// error; requests that fail later are counted in the report. When ctx ends, Run returns its error.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	c, err := newClient(&o)
	if err != nil {
		return nil, err
	}
	if o.Model == "" {
		models, err := c.models(ctx)
		if err != nil {
			return nil, fmt.Errorf("load: list the models of %s: %w", o.Target, err)
		}
		if len(models) == 0 {
			return nil, fmt.Errorf("load: %s offers no model", o.Target)
		}
		o.Model = models[0]
	}
	prompts, err := calibrate(ctx, c, &o)
	if err != nil {
		return nil, err
	}
	report := newReport(&o)
	for range max(o.Warmup, 0) {
		if _, err := c.chat(ctx, prompts.call(&o)); err != nil {
			return nil, fmt.Errorf("load: warm-up request: %w", err)
		}
	}
	for i, concurrency := range o.Concurrency {
		level, err := runLevel(ctx, c, &o, prompts, concurrency, func(done, total int) {
			if o.Progress != nil {
				o.Progress(i, done, total)
			}
		})
		if err != nil {
			return nil, err
		}
		report.Levels = append(report.Levels, level)
	}
	return report, nil
}

// runLevel keeps a number of requests running until all were sent. Each worker sends its next request when its last
// one ends, so a slow server is sent fewer: the figures say how it does at this concurrency, not at a rate.
func runLevel(ctx context.Context, c client, o *Options, prompts *prompts, concurrency int, progress func(done, total int)) (Level, error) {
	total := o.requests(concurrency)
	calls := make(chan call, total)
	for range total {
		calls <- prompts.call(o)
	}
	close(calls)
	collected := newCollector(concurrency)
	var done atomic.Int64
	var workers sync.WaitGroup
	start := time.Now()
	for range concurrency {
		workers.Go(func() {
			for call := range calls {
				if ctx.Err() != nil {
					return
				}
				limited, cancel := context.WithTimeout(ctx, o.Timeout)
				answer, err := c.chat(limited, call)
				cancel()
				if ctx.Err() == nil { // what an interrupt cut off says nothing about the server
					collected.add(answer, err)
				}
				progress(int(done.Add(1)), total)
			}
		})
	}
	workers.Wait()
	if err := ctx.Err(); err != nil {
		return Level{}, err
	}
	return collected.level(time.Since(start)), nil
}
