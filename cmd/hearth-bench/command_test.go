package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// newServer counts a token for each word, and answers with three; it fails on prompts of more words than most.
func newServer(t *testing.T, most int) string {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"data":[{"id":"words"}]}`)
	})
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Messages []struct{ Content string } }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.Header.Get("Authorization") != "Bearer key" {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		words := len(strings.Fields(body.Messages[0].Content))
		if words > most {
			http.Error(w, `{"error":{"message":"too long"}}`, http.StatusBadRequest)
			return
		}
		for range 3 {
			fmt.Fprint(w, "data: {\"choices\":[{\"delta\":{\"content\":\"word \"}}]}\n\n")
		}
		fmt.Fprintf(w, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":%d,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n", words)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

func run(t *testing.T, args ...string) (string, error) {
	t.Setenv("HEARTH_API_KEY", "key")
	command := newCommand()
	var out bytes.Buffer
	command.SetOut(&out)
	command.SetErr(&out)
	command.SetArgs(append([]string{}, args...)) // of nil it would be those of the test
	err := command.ExecuteContext(t.Context())
	return out.String(), err
}

// TestCommand measures two levels, and prints them as JSON and as a table.
func TestCommand(t *testing.T) {
	args := []string{"--target", newServer(t, 1000), "--concurrency", "1,2", "--requests", "4", "--prompt-tokens", "60", "--max-tokens", "3"}
	out, err := run(t, append(args, "--json")...)
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Model  string
		Levels []map[string]any
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if report.Model != "words" || len(report.Levels) != 2 {
		t.Fatalf("the report is %s", out)
	}
	for i, level := range report.Levels {
		for name, want := range map[string]float64{"concurrency": float64(i + 1), "requests": 4, "errors": 0, "prompt_tokens": 240, "output_tokens": 12} {
			if level[name] != want {
				t.Errorf("level %d: %s is %v, want %v", i, name, level[name], want)
			}
		}
		for _, name := range []string{"ttft_ms", "itl_ms", "tpot_ms", "e2e_ms"} {
			latency, _ := level[name].(map[string]any)
			for _, field := range []string{"count", "mean", "p50", "p90", "p99", "max"} {
				if _, ok := latency[field].(float64); !ok {
					t.Errorf("level %d: %s has no %s: %v", i, name, field, latency)
				}
			}
		}
	}
	if out, err := run(t, args...); err != nil || strings.Count(out, "\n") != 5 || !strings.Contains(out, "TTFT p50") {
		t.Errorf("the table is %v\n%s", err, out)
	}
}

// TestSeed asks with other words in each run, unless it is given the seed of one.
func TestSeed(t *testing.T) {
	seeds := map[uint64]bool{}
	for _, args := range [][]string{nil, nil, {"--seed", "7"}, {"--seed", "7"}} {
		out, err := run(t, append(args, "--target", newServer(t, 1000), "--requests", "1", "--json")...)
		var report struct{ Seed uint64 }
		if err := errors.Join(err, json.Unmarshal([]byte(out), &report)); err != nil {
			t.Fatal(err)
		}
		seeds[report.Seed] = true
	}
	if len(seeds) != 3 || !seeds[7] {
		t.Errorf("the seeds are %v", seeds)
	}
}

// TestCommandFails tells failed requests by the exit status, after the report.
func TestCommandFails(t *testing.T) {
	out, err := run(t, "--target", newServer(t, 50), "--requests", "3", "--prompt-tokens", "60", "--warmup", "-1")
	if err == nil || err.Error() != "3 requests failed" || !strings.Contains(out, "3 × status 400: too long") {
		t.Errorf("%v\n%s", err, out)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, `required flag(s) "target"`}, {[]string{"--target", "x", "y"}, "unknown command"},
		{[]string{"--target", "http://127.0.0.1:1", "--concurrency", "0"}, "Concurrency"},
		{[]string{"--target", "http://127.0.0.1:1", "--protocol", "grpc"}, "Protocol"},
	} {
		if _, err := run(t, c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want an error with %q", c.args, err, c.want)
		}
	}
}
