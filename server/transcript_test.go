package server

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hearth/engine"
	"hearth/hardware/quant"
)

var update = flag.Bool("update", false, "rewrite the transcripts in testdata")

// exchangeCase is one request of a transcript.
type exchangeCase struct {
	method, path, body string
}

// transcript is a conversation with a server, recorded in testdata.
type transcript struct {
	name  string
	cases []exchangeCase
}

// transcripts are conversations with a fresh server each; testdata holds every byte of the answers but the date and
// what settle replaces.
var transcripts = []transcript{
	{"chat", []exchangeCase{
		{"POST", "/v1/chat/completions", chatBody(`"max_tokens":12`)},
		{"POST", "/v1/chat/completions", chatBody(`"max_tokens":12,"stop":"there","metadata":{"a":"b"},"service_tier":"auto"`)},
		{"POST", "/v1/chat/completions", chatBody(`"max_tokens":4,"logprobs":true,"top_logprobs":2`)},
		{"POST", "/v1/chat/completions", chatBody(`"max_tokens":6,"n":2,"temperature":1,"seed":7`)},
	}},
	{"chat_stream", []exchangeCase{
		{"POST", "/v1/chat/completions", chatBody(`"max_tokens":8,"stream":true`)},
		{"POST", "/v1/chat/completions", chatBody(`"max_tokens":8,"stream":true,"stop":["little","girl"],"stream_options":{"include_usage":true}`)},
		{"POST", "/v1/chat/completions", chatBody(`"max_tokens":2,"stream":true,"logprobs":true,"top_logprobs":1,"stream_options":{"include_obfuscation":true}`)},
	}},
	{"chat_errors", []exchangeCase{
		{"POST", "/v1/chat/completions", `{`},
		{"POST", "/v1/chat/completions", `{"model":"stories260k"}`},
		{"POST", "/v1/chat/completions", `{"model":"none","messages":[{"role":"user","content":"x"}]}`},
		{"POST", "/v1/chat/completions", `{"model":"stories260k","messages":[{"role":"user","content":"x"},{"role":"user","content":7}]}`},
		{"POST", "/v1/chat/completions", chatBody(`"top_p":2`)},
		{"POST", "/v1/chat/completions", chatBody(`"tools":[{"type":"function","function":{"name":"f"}}]`)},
		{"POST", "/v1/chat/completions", chatBody(`"tools":[{"type":"function","function":{"name":"f","strict":true}}]`)},
		{"POST", "/v1/chat/completions", chatBody(`"tools":[{"type":"function","function":{"name":"f f"}}]`)},
		{"POST", "/v1/chat/completions", chatBody(`"tools":[{"type":"custom","custom":{"name":"f"}}]`)},
		{"POST", "/v1/chat/completions", chatBody(`"tools":[],"tool_choice":"required"`)},
		{"POST", "/v1/chat/completions", chatBody(`"tool_choice":{"type":"function","function":{"name":"f"}}`)},
		{"POST", "/v1/chat/completions", chatBody(`"colour":"red"`)},
		{"POST", "/v1/chat/completions", chatBody(`"max_tokens":100000`)},
		{"POST", "/v1/chat/completions", chatBody(`"max_tokens":1,"max_tokens":2`)},
		{"PUT", "/v1/chat/completions", ""},
		{"GET", "/v1/unknown", ""},
		{"POST", "/v1/embeddings", `{}`},
	}},
	{"completions", []exchangeCase{
		{"POST", "/v1/completions", completionBody(`"Once upon a time"`, "")},
		{"POST", "/v1/completions", completionBody(`["Lily","The dog"]`, `"max_tokens":4`)},
		{"POST", "/v1/completions", completionBody(`[1,403,407]`, `"max_tokens":4,"echo":true`)},
		{"POST", "/v1/completions", completionBody(`"Once upon"`, `"max_tokens":2,"echo":true,"logprobs":1`)},
		{"POST", "/v1/completions", completionBody(`"Once upon"`, `"max_tokens":0,"echo":true,"logprobs":0`)},
		{"POST", "/v1/completions", completionBody(`"Once"`, `"max_tokens":5,"n":1,"best_of":3,"temperature":1,"seed":3`)},
		{"POST", "/v1/completions", completionBody(`"Once"`, `"suffix":"end"`)},
	}},
	{"completions_stream", []exchangeCase{
		{"POST", "/v1/completions", completionBody(`"Once upon a time"`, `"max_tokens":5,"stream":true,"stream_options":{"include_usage":true}`)},
		{"POST", "/v1/completions", completionBody(`"Once"`, `"max_tokens":2,"stream":true,"echo":true,"logprobs":1`)},
	}},
	{"responses", []exchangeCase{
		{"POST", "/v1/responses", responseBody(`"input":"Once upon a time","max_output_tokens":16,"instructions":"Tell a story."`)},
		{"POST", "/v1/responses", responseBody(`"input":"And then?","previous_response_id":"resp_3","max_output_tokens":16,"stream":true`)},
		{"GET", "/v1/responses/resp_3/input_items", ""},
		{"POST", "/v1/responses/input_tokens", `{"model":"stories260k","input":"Once upon a time"}`},
		{"POST", "/v1/responses/resp_3/cancel", ""},
		{"DELETE", "/v1/responses/resp_3", ""},
		{"GET", "/v1/responses/resp_3", ""},
		{"POST", "/v1/responses", responseBody(`"input":"x","tool_choice":"required"`)},
		{"POST", "/v1/responses", responseBody(`"input":[{"type":"message","role":"user","content":[{"type":"input_text"}]}]`)},
	}},
	{"models", []exchangeCase{
		{"GET", "/v1/models", ""},
		{"GET", "/v1/models/stories260k", ""},
		{"GET", "/v1/models/no%2Fsuch:model", ""},
	}},
	{"tokenize", []exchangeCase{
		{"POST", "/tokenize", `{"content":"Once upon a time"}`},
		{"POST", "/tokenize", `{"model":"stories260k","prompt":"Once","with_pieces":true}`},
		{"POST", "/tokenize", `{"messages":[{"role":"user","content":"Once"}]}`},
		{"POST", "/tokenize", `{}`},
		{"POST", "/detokenize", `{"tokens":[403,407,261,378]}`},
		{"POST", "/detokenize", `{"tokens":[403,512]}`},
	}},
	{"health", []exchangeCase{
		{"GET", "/health", ""},
	}},
	{"ollama", []exchangeCase{
		{"GET", "/", ""},
		{"HEAD", "/", ""},
		{"GET", "/api/version", ""},
		{"GET", "/api/tags", ""},
		{"GET", "/api/ps", ""},
		{"POST", "/api/show", `{"model":"stories260k:latest","system":"","template":"","verbose":false,"options":null,"name":""}`},
		{"POST", "/api/show", `{"name":"stories260k","verbose":true}`},
		{"POST", "/api/chat", `{"model":"stories260k:latest","messages":[{"role":"user","content":"Once upon a time"}],"options":{"temperature":0,"num_predict":4}}`},
		{"POST", "/api/chat", `{"model":"stories260k","messages":[{"role":"user","content":"Once upon a time"}],"stream":false,"options":{"temperature":0,"stop":["there"]}}`},
		{"POST", "/api/chat", `{"model":"stories260k","messages":[]}`},
		{"POST", "/api/generate", `{"model":"stories260k","prompt":"Once upon a time","options":{"temperature":0,"num_predict":3},"logprobs":true}`},
		{"POST", "/api/generate", `{"model":"stories260k","prompt":"Once","raw":true,"stream":false,"options":{"temperature":0,"num_predict":3}}`},
		{"POST", "/api/generate", `{"model":"stories260k","prompt":"Once","stream":false,"options":{"temperature":0,"num_ctx":100000,"num_predict":3,"num_thread":4}}`},
		{"POST", "/api/generate", `{"model":"none","prompt":"Once"}`},
	}},
}

var (
	durations = regexp.MustCompile(`"(total|load|prompt_eval|eval)_duration":\d+`)
	decimals  = regexp.MustCompile(`-\d+\.\d+(e-\d+)?`)
)

// settle replaces what differs between runs and processors: durations, and the last digits of log-probabilities.
func settle(body []byte) []byte {
	body = durations.ReplaceAll(body, []byte(`"${1}_duration":N`))
	return decimals.ReplaceAllFunc(body, func(number []byte) []byte {
		f, err := strconv.ParseFloat(string(number), 64)
		if err != nil {
			return number
		}
		return strconv.AppendFloat(nil, f, 'f', 2, 64)
	})
}

func TestTranscripts(t *testing.T) {
	for _, tr := range transcripts {
		t.Run(tr.name, func(t *testing.T) { tr.check(t, startServer(t, Options{}, engine.Options{KV: quant.F32})) })
	}
}

// check holds the conversation against its record.
func (tr *transcript) check(t *testing.T, s *testServer) {
	var got bytes.Buffer
	for _, c := range tr.cases {
		fmt.Fprintf(&got, "> %s %s\n", c.method, c.path)
		if c.body != "" {
			fmt.Fprintf(&got, "> %s\n", c.body)
		}
		a := s.do(c.method, c.path, c.body)
		fmt.Fprintf(&got, "< %d\n", a.status)
		var names []string
		for name := range a.header {
			if name != "Date" && name != "Content-Length" {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			fmt.Fprintf(&got, "< %s: %s\n", name, strings.Join(a.header[name], ", "))
		}
		fmt.Fprintf(&got, "<\n%s\n", settle(a.body))
		checkAnswer(t, c, a)
	}
	path := filepath.Join("testdata", tr.name+".txt")
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s differs:\n%s", path, firstDifference(want, got.Bytes()))
	}
}

// checkAnswer holds an answer of OpenAI's API against its schema.
func checkAnswer(t *testing.T, c exchangeCase, a answer) {
	t.Helper()
	whole := map[string]string{"/v1/responses": "Response", "/v1/responses/input_tokens": "TokenCountsResource", "/v1/responses/resp_3/input_items": "ResponseItemList", "/v1/chat/completions": "CreateChatCompletionResponse", "/v1/completions": "CreateCompletionResponse", "/v1/models": "ListModelsResponse"}
	chunk := map[string]string{"/v1/chat/completions": "CreateChatCompletionStreamResponse", "/v1/completions": "CreateCompletionResponse"}
	switch schema, known := whole[c.path]; {
	case a.status >= 400 && !strings.HasPrefix(c.path, "/api/"):
		validate(t, "ErrorResponse", a.body)
	case strings.HasPrefix(a.header.Get("Content-Type"), "text/event-stream") && c.path == "/v1/responses":
		checkSequence(t, responseEvents(t, a.body), 0)
	case strings.HasPrefix(a.header.Get("Content-Type"), "text/event-stream"):
		list := events(t, a.body)
		if list[len(list)-1] != "[DONE]" {
			t.Errorf("the stream ends in %s", list[len(list)-1])
		}
		for _, e := range list[:len(list)-1] {
			// The schema of completions has no unfinished choice, which clients expect to be null.
			if c.path == "/v1/completions" {
				e = strings.ReplaceAll(e, `"finish_reason":null`, `"finish_reason":"stop"`)
				e = strings.ReplaceAll(e, `,"usage":null`, "")
			}
			validate(t, chunk[c.path], []byte(e))
		}
	case known:
		validate(t, schema, a.body)
	case strings.HasPrefix(c.path, "/v1/models/"):
		validate(t, "Model", a.body)
	}
}

func firstDifference(want, got []byte) string {
	w, g := strings.Split(string(want), "\n"), strings.Split(string(got), "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("line %d\nwant %s\ngot  %s", i+1, w[i], g[i])
		}
	}
	return fmt.Sprintf("want %d lines, got %d", len(w), len(g))
}
