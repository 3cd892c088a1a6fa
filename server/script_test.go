package server

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	ollama "github.com/ollama/ollama/api"

	"hearth/engine"
	"hearth/engine/scripttest"
	"hearth/hardware/cpu"
	"hearth/hardware/quant"
)

// scripts are what the model of these tests says after a cue, which is the last message.
var scripts = [][]string{
	{"weather?", "<think>", "\nThe weather", " in Paris.\n", "</think>", "\n\n", "Let me", " look.\n", "<tool_call>", "\n{\"name\": \"get_", "weather\", \"argu", "ments\": {\"city\": ", "\"Par", "is\"}}\n", "</tool_call>"},
	{"both?", "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}", "</tool_call>\n", "<tool_call>{\"name\": \"get_time\", \"arguments\": {}}</tool_call>"},
	{"18 °C", "It is ", "18 °C."},
	{"prose?", "Write <tool", "_call>, then ", "{\"name\": 1}", " and so on."},
	{"cut?", "<tool_call>{\"name\": \"get_weather\", ", "\"arguments\": {\"city\": ", "\"Lond", "on\"", "}}</tool_call> "},
	{"broken?", "<tool_call>{\"name\": \"get_weather\", \"arguments\": ", "[1, }", "</tool_call>  "},
}

const scriptTools = `"tools":[{"type":"function","function":{"name":"get_weather","description":"The weather.","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}},{"type":"function","function":{"name":"get_time"}}]`

// startScript serves a model that follows the scripts.
func startScript(t testing.TB, opts Options) *testServer {
	t.Helper()
	device, err := cpu.Open(cpu.Options{Threads: 1, ISA: "go"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { device.Close() })
	catalog := engine.NewCatalog()
	t.Cleanup(func() { catalog.Close() })
	path := scripttest.Write(t, scripttest.Template, scripts...)
	if _, err := catalog.Load(context.Background(), path, "script", engine.Options{Device: device, Logger: slog.New(slog.DiscardHandler), KVBytes: 8 << 20, KV: quant.F32}); err != nil {
		t.Fatal(err)
	}
	return serve(t, catalog, opts)
}

// ask is the body of a chat about a cue.
func ask(cue, fields string) string {
	return `{"model":"script","messages":[{"role":"user","content":"` + cue + `"}],"temperature":0` + strings.TrimSuffix(","+fields, ",") + `}`
}

// scriptTranscripts are conversations with the script's model, as in transcripts.
var scriptTranscripts = []transcript{
	{"chat_tools", []exchangeCase{
		{"POST", "/v1/chat/completions", ask("weather?", scriptTools)},
		{"POST", "/v1/chat/completions", ask("both?", scriptTools)},
		{"POST", "/v1/chat/completions", ask("both?", scriptTools+`,"parallel_tool_calls":false`)},
		{"POST", "/v1/chat/completions", ask("weather?", scriptTools+`,"tool_choice":"none"`)},
		{"POST", "/v1/chat/completions", ask("weather?", scriptTools+`,"stop":["look","Par"]`)},
		{"POST", "/v1/chat/completions", ask("prose?", scriptTools)},
		{"POST", "/v1/chat/completions", ask("cut?", scriptTools+`,"max_tokens":3`)},
		{"POST", "/v1/chat/completions", ask("broken?", scriptTools)},
		{"POST", "/v1/chat/completions", `{"model":"script","messages":[{"role":"user","content":"weather?"},{"role":"assistant","content":null,"reasoning_content":"Hm.","tool_calls":[{"id":"call_1","type":"function","function":{"name":"get_weather","arguments":"{\"city\":\"Paris\"}"}}]},{"role":"tool","tool_call_id":"call_1","content":"18 °C"}],"temperature":0,` + scriptTools + `}`},
		{"POST", "/v1/chat/completions", ask("weather?", `"reasoning_effort":"low","max_tokens":4`)},
		{"POST", "/v1/chat/completions", ask("weather?", scriptTools+`,"logprobs":true`)},
	}},
	{"chat_tools_stream", []exchangeCase{
		{"POST", "/v1/chat/completions", ask("weather?", scriptTools+`,"stream":true,"stream_options":{"include_usage":true}`)},
		{"POST", "/v1/chat/completions", ask("both?", scriptTools+`,"stream":true`)},
		{"POST", "/v1/chat/completions", ask("cut?", scriptTools+`,"stream":true,"max_tokens":3`)},
		{"POST", "/v1/chat/completions", ask("weather?", scriptTools+`,"stream":true,"max_tokens":7,"logprobs":true,"stream_options":{"include_obfuscation":true}`)},
	}},
	{"ollama_tools", []exchangeCase{
		{"POST", "/api/show", `{"model":"script"}`},
		{"POST", "/api/chat", `{"model":"script","messages":[{"role":"user","content":"weather?"}],"options":{"temperature":0},` + scriptTools + `}`},
		{"POST", "/api/chat", `{"model":"script","messages":[{"role":"user","content":"both?"}],"options":{"temperature":0},"think":false,"stream":false,` + scriptTools + `}`},
		{"POST", "/api/chat", `{"model":"script","messages":[{"role":"user","content":"broken?"}],"options":{"temperature":0},` + scriptTools + `}`},
		{"POST", "/api/chat", `{"model":"script","messages":[{"role":"user","content":"weather?"},{"role":"assistant","content":"","thinking":"Hm.","tool_calls":[{"function":{"name":"get_weather","arguments":{"city":"Paris"}}}]},{"role":"tool","tool_name":"get_weather","content":"18 °C"}],"stream":false,"options":{"temperature":0},` + scriptTools + `}`},
		{"POST", "/api/generate", `{"model":"script","prompt":"weather?","think":true,"stream":false,"options":{"temperature":0,"num_predict":7}}`},
		{"POST", "/api/generate", `{"model":"script","prompt":"weather?","think":true,"raw":true}`},
	}},
}

func TestScriptTranscripts(t *testing.T) {
	for _, tr := range scriptTranscripts {
		t.Run(tr.name, func(t *testing.T) { tr.check(t, startScript(t, Options{})) })
	}
}

// TestStreamedCalls puts the pieces of streamed calls together: they make what comes without a stream.
func TestStreamedCalls(t *testing.T) {
	s := startScript(t, Options{})
	for _, cue := range []string{"weather?", "both?", "18 °C", "prose?", "cut?", "broken?"} {
		whole := decodeAnswer[chatCompletion](t, s.post("/v1/chat/completions", ask(cue, scriptTools))).Choices[0]
		var message chatMessage
		reason := ""
		for _, e := range events(t, s.post("/v1/chat/completions", ask(cue, scriptTools+`,"stream":true`)).body) {
			if e == "[DONE]" {
				break
			}
			var chunk chatChunk
			if err := json.Unmarshal([]byte(e), &chunk); err != nil {
				t.Fatal(err)
			}
			delta := chunk.Choices[0].Delta
			message.Reasoning += delta.Reasoning
			if delta.Content != nil {
				message.Content += *delta.Content
			}
			for _, c := range delta.ToolCalls {
				if *c.Index == len(message.ToolCalls) {
					message.ToolCalls = append(message.ToolCalls, calledFunction{Type: c.Type, Function: functionOfCall{Name: c.Function.Name}})
				}
				message.ToolCalls[*c.Index].Function.Arguments += c.Function.Arguments
			}
			if chunk.Choices[0].FinishReason != nil {
				reason = *chunk.Choices[0].FinishReason
			}
		}
		for i := range whole.Message.ToolCalls {
			whole.Message.ToolCalls[i].ID = "" // differ
		}
		want, _ := json.Marshal([]any{whole.Message.Reasoning, whole.Message.Content, whole.Message.ToolCalls, whole.FinishReason})
		got, _ := json.Marshal([]any{message.Reasoning, message.Content, message.ToolCalls, reason})
		if string(got) != string(want) {
			t.Errorf("%s: streamed %s, whole %s", cue, got, want)
		}
	}
}

// TestOllamaClientCallsTools lets Ollama's own client read thoughts and calls.
func TestOllamaClientCallsTools(t *testing.T) {
	s := startScript(t, Options{})
	base, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	client := ollama.NewClient(base, http.DefaultClient)
	var tools ollama.Tools
	if err := json.Unmarshal([]byte(strings.TrimPrefix(scriptTools, `"tools":`)), &tools); err != nil {
		t.Fatal(err)
	}
	var thinking, content string
	var calls []ollama.ToolCall
	err = client.Chat(t.Context(), &ollama.ChatRequest{
		Model: "script", Messages: []ollama.Message{{Role: "user", Content: "weather?"}}, Tools: tools, Options: map[string]any{"temperature": 0},
	}, func(r ollama.ChatResponse) error {
		thinking += r.Message.Thinking
		content += r.Message.Content
		calls = append(calls, r.Message.ToolCalls...)
		return nil
	})
	if err != nil || thinking != "The weather in Paris." || content != "Let me look." || len(calls) != 1 {
		t.Fatalf("%q, %q, %+v, %v", thinking, content, calls, err)
	}
	if city, _ := calls[0].Function.Arguments.Get("city"); calls[0].Function.Name != "get_weather" || city != "Paris" || calls[0].ID == "" {
		t.Errorf("the call is %+v", calls[0])
	}
}
