package load

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// server is a server of known behaviour: a prompt of n words counts n+5 tokens, an answer is max_tokens words, sent
// perPiece at a time.
type server struct {
	*httptest.Server
	perPiece int
	fail     func(request int) string // an error in place of the answer: "status", "event", "cut", "empty"; "" for none

	requests atomic.Int64
	running  atomic.Int64
	mostRun  atomic.Int64
	mu       sync.Mutex // guards prompts
	prompts  []string
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{perPiece: 1}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"object":"list","data":[{"id":"words"},{"id":"other"}]}`)
	})
	mux.HandleFunc("GET /api/tags", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"models":[{"name":"words:latest","model":"words:latest"}]}`)
	})
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Model     string
			MaxTokens int `json:"max_tokens"`
			Stream    bool
			IgnoreEOS bool `json:"ignore_eos"`
			Messages  []struct{ Content string }
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.Model != "words" || !body.Stream {
			http.Error(w, fmt.Sprintf("bad request %+v: %v", body, err), http.StatusBadRequest)
			return
		}
		n := s.begin(body.Messages[0].Content)
		defer s.running.Add(-1)
		failure := ""
		if s.fail != nil {
			failure = s.fail(n)
		}
		if failure == "status" {
			w.WriteHeader(http.StatusTooManyRequests)
			fmt.Fprint(w, `{"error":{"message":"too many"}}`)
			return
		}
		send := func(format string, args ...any) {
			fmt.Fprintf(w, format, args...)
			w.(http.Flusher).Flush()
		}
		send(": keep-alive\n\ndata: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n")
		for i := 0; i < body.MaxTokens && failure != "empty"; i += s.perPiece {
			send("data: {\"choices\":[{\"delta\":{\"content\":\"word \"}}]}\n\n")
			if failure == "event" {
				send("data: {\"error\":{\"message\":\"broke\"}}\n\n")
			}
			if failure == "cut" {
				return
			}
		}
		send("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":%d,\"completion_tokens\":%d,\"prompt_tokens_details\":{\"cached_tokens\":3}}}\n\n",
			promptTokens(body.Messages[0].Content), body.MaxTokens)
		send("data: [DONE]\n\n")
	})
	mux.HandleFunc("POST /api/chat", func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Model    string
			Messages []struct{ Content string }
			Options  struct {
				NumPredict int `json:"num_predict"`
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.Model != "words:latest" {
			http.Error(w, `{"error":"bad request"}`, http.StatusBadRequest)
			return
		}
		s.begin(body.Messages[0].Content)
		defer s.running.Add(-1)
		for range body.Options.NumPredict {
			fmt.Fprintln(w, `{"message":{"role":"assistant","content":"word "},"done":false}`)
		}
		fmt.Fprintf(w, "{\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"prompt_eval_count\":%d,\"eval_count\":%d}\n",
			promptTokens(body.Messages[0].Content), body.Options.NumPredict)
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func promptTokens(text string) int { return len(strings.Fields(text)) + 5 }

// begin counts a request and returns its number.
func (s *server) begin(prompt string) int {
	running := s.running.Add(1)
	for {
		most := s.mostRun.Load()
		if running <= most || s.mostRun.CompareAndSwap(most, running) {
			break
		}
	}
	s.mu.Lock()
	s.prompts = append(s.prompts, prompt)
	s.mu.Unlock()
	return int(s.requests.Add(1))
}

// calibration is the number of requests before the first counted one: two that measure words, and the warm-up.
const calibration = 3

func TestRunCountsExactly(t *testing.T) {
	for _, protocol := range []Protocol{OpenAI, Ollama} {
		t.Run(string(protocol), func(t *testing.T) {
			s := newServer(t)
			var calls atomic.Int64
			report, err := Run(context.Background(), Options{
				Target: s.URL, Protocol: protocol, Concurrency: []int{1, 4}, Requests: 12, PromptTokens: 50, MaxTokens: 7,
				Progress: func(level, done, total int) {
					calls.Add(1)
					if level > 1 || done < 1 || done > total || total != 12 {
						t.Errorf("progress of level %d: %d of %d", level, done, total)
					}
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := s.requests.Load(); got != 2*12+calibration || calls.Load() != 24 {
				t.Errorf("sent %d requests and reported %d, want %d and 24", got, calls.Load(), 2*12+calibration)
			}
			for i, l := range report.Levels {
				if l.Concurrency != []int{1, 4}[i] || l.Requests != 12 || l.Errors != 0 || l.PromptTokens != 12*50 || l.OutputTokens != 12*7 {
					t.Errorf("level is %+v, want 12 requests of exactly 50 and 7 tokens", l)
				}
				if l.TTFT.Count != 12 || l.E2E.Count != 12 || l.ITL.Count != 12*6 || l.TPOT.Count != 12 {
					t.Errorf("counts of latencies are %d, %d, %d, %d", l.TTFT.Count, l.E2E.Count, l.ITL.Count, l.TPOT.Count)
				}
				if want := float64(l.OutputTokens) / l.Seconds; math.Abs(l.OutputTokensPerSecond-want) > 1e-9 || l.TTFT.P50 <= 0 || l.E2E.Max < l.TTFT.P50 {
					t.Errorf("level is %+v", l)
				}
				if want := map[Protocol]int{OpenAI: 36, Ollama: 0}[protocol]; l.CachedTokens != want {
					t.Errorf("cached tokens are %d, want %d", l.CachedTokens, want)
				}
			}
			if s.mostRun.Load() > 4 {
				t.Errorf("%d requests ran at once, want at most 4", s.mostRun.Load())
			}
			var table bytes.Buffer
			if err := report.WriteTable(&table); err != nil || !strings.Contains(table.String(), "TTFT") {
				t.Errorf("table: %v\n%s", err, table.String())
			}
		})
	}
}

func TestRunCountsErrors(t *testing.T) {
	s := newServer(t)
	kinds := []string{"", "status", "event", "cut", "empty"}
	s.fail = func(request int) string {
		if request <= calibration {
			return ""
		}
		return kinds[request%len(kinds)]
	}
	report, err := Run(context.Background(), Options{Target: s.URL, Requests: 20, PromptTokens: 20, MaxTokens: 4})
	if err != nil {
		t.Fatal(err)
	}
	l := report.Levels[0]
	if l.Requests != 4 || l.Errors != 16 || report.Errors() != 16 || len(l.Failures) != 4 || l.OutputTokens != 4*4 || l.TTFT.Count != 4 {
		t.Errorf("level is %+v, want 4 answers and 4 errors of each of 4 kinds", l)
	}
	text := fmt.Sprint(l.Failures)
	for _, want := range []string{"status 429: too many", "broke", "without [DONE]", "no text"} {
		if !strings.Contains(text, want) {
			t.Errorf("failures %s do not say %q", text, want)
		}
	}
}

// TestPiecesOfSeveralTokens checks that the time between tokens does not depend on how a server cuts its stream.
func TestPiecesOfSeveralTokens(t *testing.T) {
	s := newServer(t)
	s.perPiece = 4
	report, err := Run(context.Background(), Options{Target: s.URL, Requests: 3, PromptTokens: 20, MaxTokens: 13})
	if err != nil {
		t.Fatal(err)
	}
	if l := report.Levels[0]; l.OutputTokens != 39 || l.ITL.Count != 36 {
		t.Errorf("level is %+v, want 12 gaps between tokens for each answer of 13 tokens in 4 pieces", l)
	}
	start := time.Unix(0, 0)
	c := newCollector(1)
	c.add(answer{sent: start, pieces: []time.Time{start.Add(10e6), start.Add(30e6), start.Add(50e6)}, end: start.Add(50e6), outputTokens: 9}, nil)
	l := c.level(time.Second)
	if math.Abs(l.ITL.Mean-5) > 0.1 || math.Abs(l.TPOT.Mean-5) > 0.1 || math.Abs(l.TTFT.Mean-10) > 0.1 {
		t.Errorf("ITL %v, TPOT %v, TTFT %v ms, want 5, 5 and 10", l.ITL.Mean, l.TPOT.Mean, l.TTFT.Mean)
	}
}

func TestPromptsShareOnlyTheirPrefix(t *testing.T) {
	s := newServer(t)
	if _, err := Run(context.Background(), Options{Target: s.URL, Requests: 8, PromptTokens: 105, MaxTokens: 1, SharedPrefix: 0.5, Seed: 3}); err != nil {
		t.Fatal(err)
	}
	prompts := s.prompts[calibration:]
	own := map[string]bool{}
	for _, p := range prompts {
		fields := strings.Fields(p)
		if len(fields) != 100 || strings.Join(fields[:50], " ") != strings.Join(strings.Fields(prompts[0])[:50], " ") {
			t.Fatalf("prompt has %d words or another prefix: %s", len(fields), p)
		}
		own[strings.Join(fields[50:], " ")] = true
	}
	if len(own) != len(prompts) {
		t.Errorf("%d different prompts of %d", len(own), len(prompts))
	}
}

func TestRunRefuses(t *testing.T) {
	s := newServer(t)
	for name, test := range map[string]struct {
		options Options
		want    string
	}{
		"no target":        {Options{}, "Target is missing"},
		"target":           {Options{Target: "localhost"}, "not an http address"},
		"protocol":         {Options{Target: s.URL, Protocol: "grpc"}, "Protocol"},
		"concurrency":      {Options{Target: s.URL, Concurrency: []int{0}}, "Concurrency"},
		"shared prefix":    {Options{Target: s.URL, SharedPrefix: 2}, "SharedPrefix"},
		"unknown model":    {Options{Target: s.URL, Model: "none"}, "status 400"},
		"nobody listening": {Options{Target: "http://127.0.0.1:1"}, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Run(context.Background(), test.options); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestRunStopsWithItsContext(t *testing.T) {
	s := newServer(t)
	ctx, cancel := context.WithCancel(context.Background())
	s.fail = func(request int) string {
		if request == calibration+2 {
			cancel()
		}
		return ""
	}
	if _, err := Run(ctx, Options{Target: s.URL, Requests: 1000, PromptTokens: 20, MaxTokens: 2}); err != context.Canceled {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if n := s.requests.Load(); n > calibration+3 {
		t.Errorf("%d requests were sent after the end", n-calibration-2)
	}
}
