package server

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	ollama "github.com/ollama/ollama/api"

	"hearth/engine/embedded"
)

// TestOllamaClient lets Ollama's own client use every endpoint it has here.
func TestOllamaClient(t *testing.T) {
	s := sharedServer(t)
	base, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	client, ctx := ollama.NewClient(base, http.DefaultClient), context.Background()
	if err := client.Heartbeat(ctx); err != nil {
		t.Errorf("Heartbeat: %v", err)
	}
	if v, err := client.Version(ctx); err != nil || v != ollamaAPIVersion {
		t.Errorf("Version = %q, %v", v, err)
	}
	list, err := client.List(ctx)
	if err != nil || len(list.Models) != 1 || list.Models[0].Name != embedded.Name+":latest" || list.Models[0].Size == 0 {
		t.Errorf("List = %+v, %v", list, err)
	}

	running, err := client.ListRunning(ctx)
	if err != nil || len(running.Models) != 1 || running.Models[0].Name != list.Models[0].Name || running.Models[0].ContextLength != 512 ||
		running.Models[0].ExpiresAt.Before(s.opts.Now().AddDate(100, 0, 0)) {
		t.Errorf("ListRunning = %+v, %v", running, err)
	}
	for _, r := range []ollama.ShowRequest{{Model: list.Models[0].Model}, {Model: embedded.Name, Options: map[string]any{"num_ctx": 64}}, {Name: embedded.Name}} {
		show, err := client.Show(ctx, &r)
		if err != nil || show.Details.Family != "llama" || show.ModelInfo["general.architecture"] != "llama" || show.ModelInfo["llama.context_length"] != float64(512) ||
			len(show.Capabilities) != 1 || show.Capabilities[0] != "completion" {
			t.Errorf("Show %+v = %+v, %v", r, show, err)
		}
	}

	options := map[string]any{"temperature": 0, "num_predict": 20, "stop": []string{"Lily"}}
	var text strings.Builder
	var last ollama.ChatResponse
	messages := []ollama.Message{{Role: "system", Content: "Once upon"}, {Role: "user", Content: "a time"}}
	err = client.Chat(ctx, &ollama.ChatRequest{Model: list.Models[0].Model, Messages: messages, Options: options}, func(r ollama.ChatResponse) error {
		text.WriteString(r.Message.Content)
		last = r
		return nil
	})
	if err != nil || text.Len() == 0 || strings.Contains(text.String(), "Lily") {
		t.Errorf("Chat: %q, %v", &text, err)
	}
	if !last.Done || last.DoneReason != "stop" || last.PromptEvalCount == 0 || last.EvalCount == 0 || last.Message.Role != "assistant" {
		t.Errorf("Chat ended with %+v", last)
	}

	stream := false
	var whole ollama.ChatResponse
	calls := 0
	err = client.Chat(ctx, &ollama.ChatRequest{Model: embedded.Name, Messages: messages, Options: options, Stream: &stream}, func(r ollama.ChatResponse) error {
		whole, calls = r, calls+1
		return nil
	})
	if err != nil || calls != 1 || whole.Message.Content != text.String() || whole.EvalCount != last.EvalCount {
		t.Errorf("Chat without a stream: %d answers, %+v, %v; streamed %q", calls, whole, err, &text)
	}

	var generated ollama.GenerateResponse
	text.Reset()
	err = client.Generate(ctx, &ollama.GenerateRequest{Model: embedded.Name, System: "Once upon", Prompt: "a time", Options: map[string]any{"temperature": 0, "num_predict": 3}, Logprobs: true, TopLogprobs: 2}, func(r ollama.GenerateResponse) error {
		text.WriteString(r.Response)
		if !r.Done && (len(r.Logprobs) != 1 || len(r.Logprobs[0].TopLogprobs) != 2) {
			t.Errorf("log-probabilities %+v", r.Logprobs)
		}
		generated = r
		return nil
	})
	if err != nil || !generated.Done || generated.DoneReason != "length" || generated.EvalCount != 3 || text.Len() == 0 {
		t.Errorf("Generate: %q, %+v, %v", &text, generated, err)
	}

	var status ollama.StatusError
	err = client.Generate(ctx, &ollama.GenerateRequest{Model: "none", Prompt: "x"}, func(ollama.GenerateResponse) error { return nil })
	if !errors.As(err, &status) || status.StatusCode != 404 {
		t.Errorf("Generate with an unknown model: %v, want 404", err)
	}
}

func TestOllamaRefusals(t *testing.T) {
	s := sharedServer(t)
	for _, c := range []struct{ path, body, want string }{
		{"/api/chat", `{"model":"stories260k","messages":[{"role":"robot"}]}`, "messages[0].role"},
		{"/api/chat", `{"model":"stories260k","messages":[{"content":"x"}]}`, "messages[0].role is required"},
		{"/api/chat", `{"model":"stories260k","messages":[{"role":"user","content":"x","images":["aGk="]}]}`, "messages[0].images"},
		{"/api/chat", `{"model":"stories260k","messages":[],"tools":[{}]}`, "tools"},
		{"/api/chat", `{"model":"stories260k","messages":[],"format":"json"}`, "format"},
		{"/api/chat", `{"model":"stories260k","messages":[{"role":"user","content":"x"}],"think":true}`, "think"},
		{"/api/chat", `{"model":"stories260k","messages":[],"keep_alive":0}`, "keep_alive"},
		{"/api/chat", `{"model":"stories260k","messages":[],"options":{"top_p":2}}`, "options.top_p"},
		{"/api/chat", `{"model":"stories260k","messages":[],"options":{"heat":2}}`, "options.heat"},
		{"/api/chat", `{"messages":[]}`, "model is required"},
		{"/api/show", `{}`, "model is required"},
		{"/api/show", `{"model":"stories260k","template":"x"}`, "template"},
		{"/api/show", `{"model":"stories260k","verbose":true}`, "verbose"},
		{"/api/generate", `{"model":"stories260k","prompt":"x","raw":true,"system":"s"}`, "raw"},
		{"/api/generate", `{"model":"stories260k","prompt":"x","template":"t"}`, "template"},
		{"/api/generate", `{"model":"stories260k","prompt":"x","context":[1]}`, "context"},
		{"/api/generate", `{"model":"stories260k","prompt":"x","suffix":"y"}`, "fill-in-the-middle"},
		{"/api/generate", `{"model":"stories260k","keep_alive":"0s"}`, "keep_alive"},
		{"/api/generate", `{"model":"stories260k","prompt":"x","keep_alive":[]}`, "keep_alive"},
		{"/api/generate", `{"model":"stories260k","prompt":"x","options":{"mirostat":2}}`, "options.mirostat"},
		{"/api/generate", `{"model":"stories260k","prompt":"` + strings.Repeat("Once upon a time ", 200) + `","options":{"num_ctx":100000}}`, "512"},
	} {
		a := s.post(c.path, c.body)
		if e := decodeAnswer[ollamaError](t, a); a.status != 400 || !strings.Contains(e.Error, c.want) {
			t.Errorf("%s %s = %d %s, want 400 about %s", c.path, c.body, a.status, a.body, c.want)
		}
	}
	a := s.post("/api/chat", `{"model":"stories260k:latest","stream":false,"messages":[{"role":"assistant","content":"","thinking":"t","tool_calls":[{"id":"1","function":{"index":0,"name":"f","arguments":{"a":1}}}]},{"role":"tool","tool_name":"f","tool_call_id":"1","content":"r"},{"role":"user","content":"x"}],"options":{"num_predict":1,"num_ctx":512,"num_thread":4,"seed":-1},"think":false}`)
	if a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestOllamaOptionsWithoutEffect sends what Ollama's clients send of settings that mean nothing here: the answer is the
// same as without them.
func TestOllamaOptionsWithoutEffect(t *testing.T) {
	s := sharedServer(t)
	ask := func(options, more string) ollama.GenerateResponse {
		t.Helper()
		a := s.post("/api/generate", `{"model":"stories260k","prompt":"Once","raw":true,"stream":false,"options":{"temperature":0,"num_predict":4`+options+`}`+more+`}`)
		if a.status != 200 {
			t.Fatalf("%s %s = %d %s", options, more, a.status, a.body)
		}
		return decodeAnswer[ollama.GenerateResponse](t, a)
	}
	want := ask("", "").Response
	for _, c := range []struct{ options, more string }{
		{`,"numa":true,"low_vram":false,"f16_kv":true,"vocab_only":false,"use_mmap":true,"use_mlock":false,"logits_all":false`, ""},
		{`,"num_gpu":1,"main_gpu":0,"num_thread":8,"num_batch":512,"num_keep":24,"embedding_only":false`, ""},
		{`,"penalize_newline":true,"tfs_z":1.0,"mirostat":0,"mirostat_tau":5.0,"mirostat_eta":0.1`, ""},
		{`,"num_ctx":100000`, ""},
		{`,"num_ctx":4`, ""},
		{"", `,"keep_alive":-1`},
		{"", `,"keep_alive":0`},
		{"", `,"keep_alive":"24h"`},
		{"", `,"think":false`},
	} {
		if got := ask(c.options, c.more).Response; got != want {
			t.Errorf("with %s %s: %q, without %q", c.options, c.more, got, want)
		}
	}
}

// TestOllamaNumPredict checks that more tokens than fit are as many as fit.
func TestOllamaNumPredict(t *testing.T) {
	s := sharedServer(t)
	prompt := strings.Repeat("Once upon a time ", 110)
	for _, n := range []string{"1000", "-1", "-2"} {
		a := s.post("/api/generate", `{"model":"stories260k","prompt":"`+prompt+`","raw":true,"stream":false,"options":{"temperature":0,"num_predict":`+n+`}}`)
		g := decodeAnswer[ollama.GenerateResponse](t, a)
		if a.status != 200 || g.DoneReason != "length" || g.PromptEvalCount+g.EvalCount != 512 {
			t.Errorf("num_predict %s: %d %s, want an answer that fills the context of 512", n, a.status, a.body)
		}
	}
}
