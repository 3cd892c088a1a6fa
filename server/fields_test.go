package server

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"hearth/cmd/sharedtest"
	"hearth/engine/embedded"
)

// schemaFields returns the property names of a request schema, those that it inherits included.
func schemaFields(t *testing.T, name string) []string {
	t.Helper()
	type schema struct {
		Properties map[string]json.RawMessage `json:"properties"`
		AllOf      []json.RawMessage          `json:"allOf"`
		AnyOf      []json.RawMessage          `json:"anyOf"`
		Ref        string                     `json:"$ref"`
	}
	var doc struct {
		Components struct {
			Schemas map[string]json.RawMessage `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(sharedtest.ReadFile(t, "testdata", "openai", "openapi-subset.json"), &doc); err != nil {
		t.Fatal(err)
	}
	var names []string
	var collect func(raw json.RawMessage)
	collect = func(raw json.RawMessage) {
		var s schema
		if err := json.Unmarshal(raw, &s); err != nil {
			t.Fatal(err)
		}
		if s.Ref != "" {
			collect(doc.Components.Schemas[s.Ref[strings.LastIndex(s.Ref, "/")+1:]])
		}
		for name := range s.Properties {
			names = append(names, name)
		}
		for _, part := range append(s.AllOf, s.AnyOf...) {
			collect(part)
		}
	}
	raw, ok := doc.Components.Schemas[name]
	if !ok {
		t.Fatalf("there is no schema %s", name)
	}
	collect(raw)
	slices.Sort(names)
	return slices.Compact(names)
}

// checkTable checks that a table has these fields, and none twice.
func checkTable[T any](t *testing.T, table string, fields []field[T], names []string) {
	t.Helper()
	if len(names) == 0 {
		t.Errorf("%s: the schema has no fields", table)
	}
	for _, name := range names {
		if find(fields, name) == nil {
			t.Errorf("%s has no field %s", table, name)
		}
	}
	seen := map[string]bool{}
	for _, f := range fields {
		if seen[f.name] {
			t.Errorf("%s has the field %s twice", table, f.name)
		}
		seen[f.name] = true
		if f.read == nil {
			t.Errorf("%s does not read the field %s", table, f.name)
		}
	}
}

func TestFieldTables(t *testing.T) {
	checkTable(t, "chat", chatFields, schemaFields(t, "CreateChatCompletionRequest"))
	checkTable(t, "completions", completionFields, schemaFields(t, "CreateCompletionRequest"))
	checkTable(t, "stream_options", streamOptionFields, schemaFields(t, "ChatCompletionStreamOptions"))
	for _, r := range messageRoles {
		name := "ChatCompletionRequest" + strings.ToUpper(r.role[:1]) + r.role[1:] + "Message"
		checkTable(t, name, r.fields, schemaFields(t, name))
	}
	checkTable(t, "text part", partFields, schemaFields(t, "ChatCompletionRequestMessageContentPartText"))
	checkTable(t, "refusal part", partFields, schemaFields(t, "ChatCompletionRequestMessageContentPartRefusal"))
	checkTable(t, "tool call", toolCallFields, schemaFields(t, "ChatCompletionMessageToolCall"))
	checkTable(t, "responses", responseFields, schemaFields(t, "CreateResponse"))
	checkTable(t, "responses over a WebSocket", socketFields, schemaFields(t, "ResponsesClientEventResponseCreate"))
	checkTable(t, "input_tokens", inputTokensFields, schemaFields(t, "TokenCountsBody"))
	checkTable(t, "compact", compactFields, schemaFields(t, "CompactResponseMethodPublicBody"))
	checkTable(t, "reasoning", reasoningFields, schemaFields(t, "Reasoning"))
	checkTable(t, "text", textOptionFields, schemaFields(t, "ResponseTextParam"))
	checkTable(t, "function tool", functionFields, schemaFields(t, "FunctionTool"))
	checkTable(t, "custom tool", customFields, schemaFields(t, "CustomToolParam"))
	checkTable(t, "context_management", contextEntryFields, schemaFields(t, "ContextManagementParam"))
	checkTable(t, "conversation", conversationFields, schemaFields(t, "ConversationParam-2"))
	checkTable(t, "tool_choice", toolChoiceFields, schemaFields(t, "ToolChoiceAllowed"))
	checkTable(t, "tokenize", tokenizeFields, []string{"model", "content", "prompt", "messages"})
	checkTable(t, "detokenize", detokenizeFields, []string{"model", "tokens"})
}

// TestExtensionFields checks the fields that clients of other servers send.
func TestExtensionFields(t *testing.T) {
	shared := []string{
		"top_k", "min_p", "typical_p", "repetition_penalty", "repeat_penalty", "dry_multiplier", "dry_base", "dry_allowed_length",
		"dry_penalty_last_n", "dry_sequence_breakers", "xtc_probability", "xtc_threshold", "mirostat", "mirostat_tau", "mirostat_eta",
		"grammar", "json_schema", "guided_json", "guided_regex", "guided_choice", "structured_outputs", "ebnf", "regex", "ignore_eos",
		"min_tokens", "return_tokens", "return_token_ids", "cache_prompt", "id_slot", "timings_per_token", "return_progress",
		"session_id", "priority", "lora", "keep_alive",
	}
	checkTable(t, "completions", completionFields, shared)
	checkTable(t, "chat", chatFields, append(shared, "chat_template_kwargs", "thinking_budget", "reasoning_budget", "continue_final_message", "add_generation_prompt"))
}

// TestOllamaFields checks the tables against the fields that Ollama's client can send.
func TestOllamaFields(t *testing.T) {
	checkTable(t, "chat", ollamaChatFields, []string{"model", "messages", "stream", "format", "keep_alive", "tools", "options", "think", "truncate", "shift", "_debug_render_only", "logprobs", "top_logprobs"})
	checkTable(t, "generate", ollamaGenerateFields, []string{
		"model", "prompt", "suffix", "system", "template", "context", "stream", "raw", "format", "keep_alive", "images", "options", "think",
		"truncate", "shift", "_debug_render_only", "logprobs", "top_logprobs", "width", "height", "steps",
	})
	checkTable(t, "options", ollamaOptions, []string{
		"num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "draft_num_predict", "num_keep", "seed", "num_predict", "top_k", "top_p",
		"min_p", "typical_p", "repeat_last_n", "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty", "stop",
		"numa", "low_vram", "f16_kv", "vocab_only", "logits_all", "embedding_only", "use_mlock", "penalize_newline", "tfs_z", "mirostat", "mirostat_tau", "mirostat_eta",
	})
	checkTable(t, "show", ollamaShowFields, []string{"model", "name", "system", "template", "verbose", "options"})
	checkTable(t, "message", ollamaMessageFields, []string{"role", "content", "thinking", "images", "tool_calls", "tool_name", "tool_call_id"})
}

// TestEveryFieldIsChecked sends a value that no field takes for every field: each must be refused by its name, as
// unsupported if the table says so.
func TestEveryFieldIsChecked(t *testing.T) {
	s := sharedServer(t)
	const wrong = `[{"a":[true]}]`
	check := func(path, base string, fields []field[generation]) {
		for _, f := range fields {
			body := fmt.Sprintf(`{"model":%q,%s,%q:%s}`, embedded.Name, base, f.name, wrong)
			if strings.Contains(body[:len(body)-len(wrong)-len(f.name)-4], fmt.Sprintf("%q:", f.name)) {
				body = fmt.Sprintf(`{%q:%s}`, f.name, wrong)
			}
			a := s.post(path, body)
			e := decodeAnswer[errorBody](t, a).Error
			if a.status != 400 || e.Param == nil || !strings.HasPrefix(*e.Param, f.name) || (*e.Code == "unsupported_parameter") != (f.use == refused) {
				t.Errorf("%s with a wrong %s = %d %s", path, f.name, a.status, a.body)
			}
		}
	}
	check("/v1/chat/completions", `"messages":[{"role":"user","content":"x"}]`, chatFields)
	check("/v1/completions", `"prompt":"x"`, completionFields)
}

// TestRefusals goes through requests that must be refused, with the field that the answer names and its code.
func TestRefusals(t *testing.T) {
	s := sharedServer(t)
	chat := func(messages string) string {
		return fmt.Sprintf(`{"model":%q,"messages":%s}`, embedded.Name, messages)
	}
	for _, c := range []struct {
		path, body  string
		param, code string
	}{
		{"chat", ``, "", "invalid_value"},
		{"chat", `[]`, "", "invalid_type"},
		{"chat", `{}`, "messages", "missing_required_parameter"},
		{"chat", `{"messages":[{"role":"user","content":"x"}]}`, "model", "missing_required_parameter"},
		{"chat", `{"model":"","messages":[]}`, "model", "invalid_value"},
		{"chat", `{"model":null,"messages":[{"role":"user","content":"x"}]}`, "model", "missing_required_parameter"},
		{"chat", chat(`[]`), "messages", "invalid_value"},
		{"chat", chat(`{}`), "messages", "invalid_type"},
		{"chat", chat(`["x"]`), "messages[0]", "invalid_type"},
		{"chat", chat(`[{"content":"x"}]`), "messages[0].role", "missing_required_parameter"},
		{"chat", chat(`[{"role":"robot","content":"x"}]`), "messages[0].role", "invalid_value"},
		{"chat", chat(`[{"role":"user"}]`), "messages[0].content", "missing_required_parameter"},
		{"chat", chat(`[{"role":"user","content":null}]`), "messages[0].content", "missing_required_parameter"},
		{"chat", chat(`[{"role":"assistant"}]`), "messages[0].content", "missing_required_parameter"},
		{"chat", chat(`[{"role":"tool","content":"x"}]`), "messages[0].tool_call_id", "missing_required_parameter"},
		{"chat", chat(`[{"role":"user","content":"x"},{"role":"user","content":[{"type":"text"}]}]`), "messages[1].content[0].text", "missing_required_parameter"},
		{"chat", chat(`[{"role":"user","content":[{"text":"x"}]}]`), "messages[0].content[0].type", "missing_required_parameter"},
		{"chat", chat(`[{"role":"user","content":[{"type":"refusal","refusal":"x"}]}]`), "messages[0].content[0].type", "invalid_value"},
		{"chat", chat(`[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]`), "messages[0].content[0].type", "unsupported_parameter"},
		{"chat", chat(`[{"role":"user","content":[]}]`), "messages[0].content", "invalid_value"},
		{"chat", chat(`[{"role":"user","content":"x","mood":"good"}]`), "messages[0].mood", "unknown_parameter"},
		{"chat", chat(`[{"role":"user","content":"x","content":"y"}]`), "messages[0].content", "invalid_value"},
		{"chat", chat(`[{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":{}}}]}]`), "messages[0].tool_calls[0].function.arguments", "invalid_type"},
		{"chat", chat(`[{"role":"assistant","tool_calls":[{"type":"function","function":{"name":"f","arguments":"{}"}}]}]`), "messages[0].tool_calls[0].id", "missing_required_parameter"},
		{"chat", chatBody(`"temperature":-0.1`), "temperature", "invalid_value"},
		{"chat", chatBody(`"temperature":1e400`), "temperature", "invalid_value"},
		{"chat", chatBody(`"temperature":"hot"`), "temperature", "invalid_type"},
		{"chat", chatBody(`"max_tokens":1.5`), "max_tokens", "invalid_type"},
		{"chat", chatBody(`"max_tokens":0`), "max_tokens", "invalid_value"},
		{"chat", chatBody(`"max_tokens":-1`), "max_tokens", "invalid_value"},
		{"chat", chatBody(`"max_tokens":99999999999999999999`), "max_tokens", "invalid_value"},
		{"chat", chatBody(`"max_tokens":1,"max_completion_tokens":2`), "max_tokens", "invalid_value"},
		{"chat", chatBody(`"max_tokens":1,"min_tokens":2`), "min_tokens", "invalid_value"},
		{"chat", chatBody(`"n":129`), "n", "invalid_value"},
		{"chat", chatBody(`"n":0`), "n", "invalid_value"},
		{"chat", chatBody(`"top_logprobs":3`), "top_logprobs", "invalid_value"},
		{"chat", chatBody(`"logprobs":true,"top_logprobs":21`), "top_logprobs", "invalid_value"},
		{"chat", chatBody(`"stop":["a","b","c","d","e"]`), "stop", "invalid_value"},
		{"chat", chatBody(`"stop":["a",1]`), "stop[1]", "invalid_type"},
		{"chat", chatBody(`"stop":""`), "stop", "invalid_value"},
		{"chat", chatBody(`"logit_bias":{"1":101}`), "logit_bias.1", "invalid_value"},
		{"chat", chatBody(`"logit_bias":{"one":1}`), "logit_bias.one", "invalid_value"},
		{"chat", chatBody(`"logit_bias":{"99999":1}`), "logit_bias", "invalid_value"},
		{"chat", chatBody(`"stream_options":{"include_usage":true}`), "stream_options", "invalid_value"},
		{"chat", chatBody(`"stream":true,"stream_options":{"other":1}`), "stream_options.other", "unknown_parameter"},
		{"chat", chatBody(`"response_format":{"type":"json_object"}`), "response_format", "unsupported_parameter"},
		{"chat", chatBody(`"tool_choice":"required"`), "tool_choice", "unsupported_parameter"},
		{"chat", chatBody(`"modalities":["text","audio"]`), "modalities", "unsupported_parameter"},
		{"chat", chatBody(`"reasoning_effort":"low"`), "reasoning_effort", "invalid_value"},
		{"chat", chatBody(`"metadata":{"a":1}`), "metadata.a", "invalid_type"},
		{"chat", chatBody(`"service_tier":"gold"`), "service_tier", "invalid_value"},
		{"chat", chatBody(`"safety_identifier":"` + strings.Repeat("x", 65) + `"`), "safety_identifier", "invalid_value"},
		{"chat", chatBody(`"keep_alive":0`), "keep_alive", "unsupported_parameter"},
		{"chat", chatBody(`"chat_template_kwargs":{"a":{"b":1,"b":2}}`), "chat_template_kwargs.a.b", "invalid_value"},
		{"chat", "{\"model\":\"\xff\"}", "", "invalid_value"},
		{"completions", completionBody(`[]`, ""), "prompt", "invalid_value"},
		{"completions", completionBody(`""`, `"stream":false,"prompt":"x"`), "prompt", "invalid_value"},
		{"completions", completionBody(`[1,"x"]`, ""), "prompt[1]", "invalid_type"},
		{"completions", completionBody(`["x",1]`, ""), "prompt[1]", "invalid_type"},
		{"completions", completionBody(`[[1],[-2]]`, ""), "prompt[1][0]", "invalid_value"},
		{"completions", completionBody(`[[1],[]]`, ""), "prompt[1]", "invalid_value"},
		{"completions", completionBody(`[1,512]`, ""), "prompt", "invalid_value"},
		{"completions", completionBody(`"x"`, `"logprobs":6`), "logprobs", "invalid_value"},
		{"completions", completionBody(`"x"`, `"best_of":2,"n":3`), "best_of", "invalid_value"},
		{"completions", completionBody(`"x"`, `"best_of":2,"stream":true`), "best_of", "invalid_value"},
		{"completions", completionBody(`[1]`, `"suffix":"x"`), "prompt", "invalid_value"},
		{"completions", completionBody(`"x"`, `"suffix":"x","echo":true`), "echo", "invalid_value"},
		{"completions", completionBody(`["x","y","z"]`, `"n":100`), "n", "invalid_value"},
		{"completions", completionBody(`"x"`, `"messages":[]`), "messages", "unknown_parameter"},
		{"completions", completionBody(`"x"`, `"max_tokens":512`), "prompt", "context_length_exceeded"},
	} {
		path := map[string]string{"chat": "/v1/chat/completions", "completions": "/v1/completions"}[c.path]
		a := s.post(path, c.body)
		validate(t, "ErrorResponse", a.body)
		e := decodeAnswer[errorBody](t, a).Error
		param := ""
		if e.Param != nil {
			param = *e.Param
		}
		if a.status != 400 || param != c.param || e.Code == nil || *e.Code != c.code {
			t.Errorf("%s %.300s\n= %d %s, want 400, param %q, code %s", path, c.body, a.status, a.body, c.param, c.code)
		}
	}
}

// TestHarmlessFields checks that values which ask for nothing are accepted wherever the field stands in the table.
func TestHarmlessFields(t *testing.T) {
	s := sharedServer(t)
	for _, fields := range []string{
		`"tools":[],"tool_choice":"auto","parallel_tool_calls":false,"functions":[],"function_call":"none"`,
		`"response_format":{"type":"text"},"modalities":["text"],"store":false,"verbosity":"medium"`,
		`"temperature":null,"top_p":null,"n":null,"stop":null,"seed":null,"logit_bias":null,"metadata":null,"audio":null,"stream_options":null,"tools":null`,
		`"user":"u","safety_identifier":"s","prompt_cache_key":"k","prompt_cache_retention":"24h","service_tier":"priority"`,
		`"lora":[],"mirostat":0,"dry_multiplier":0.0,"xtc_probability":0,"id_slot":-1,"timings_per_token":false,"return_progress":false,"keep_alive":"5m"`,
		`"add_generation_prompt":true,"continue_final_message":false,"cache_prompt":false,"grammar":"","return_token_ids":false,"priority":-1`,
		`"top_k":-1,"min_p":0.1,"typical_p":1,"repetition_penalty":1.1,"repeat_last_n":0,"top_p":0,"seed":-5`,
		`"max_tokens":2.0,"max_completion_tokens":2,"logit_bias":{"5":-100,"6":1.5}`,
	} {
		if !strings.Contains(fields, "max_tokens") {
			fields += `,"max_tokens":2`
		}
		if a := s.post("/v1/chat/completions", chatBody(fields)); a.status != 200 {
			t.Errorf("%s = %d %s", fields, a.status, a.body)
		}
	}
}

// TestBodyLimits checks sizes, types and encodings of bodies.
func TestBodyLimits(t *testing.T) {
	s := serve(t, sharedServer(t).catalog, Options{MaxBodyBytes: 1000})
	post := func(contentType, more, body string) (int, string) {
		head := "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
		if contentType != "" {
			head += "Content-Type: " + contentType + "\r\n"
		}
		return s.raw(head + more + body)
	}
	ok := completionBody(`"x"`, `"max_tokens":1`)
	length := func(s string) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n", len(s)) }
	for _, c := range []struct {
		name, contentType, more, body string
		status                        int
	}{
		{"plain", "application/json", length(ok), ok, 200},
		{"charset", "application/json; charset=UTF-8", length(ok), ok, 200},
		{"no type", "", length(ok), ok, 200},
		{"curl -d", "application/x-www-form-urlencoded", length(ok), ok, 200},
		{"form of a page", "application/x-www-form-urlencoded", "Origin: http://localhost\r\n" + length(ok), ok, 415},
		{"form of a page, its origin kept back", "application/x-www-form-urlencoded", "Sec-Fetch-Site: same-origin\r\n" + length(ok), ok, 415},
		{"form of another site's page", "application/x-www-form-urlencoded", "Sec-Fetch-Site: cross-site\r\n" + length(ok), ok, 403},
		{"form of an opaque page", "application/x-www-form-urlencoded", "Origin: null\r\n" + length(ok), ok, 403},
		{"text", "text/plain", length(ok), ok, 415},
		{"latin", "application/json; charset=latin1", length(ok), ok, 415},
		{"compressed", "application/json", "Content-Encoding: gzip\r\n" + length(ok), ok, 415},
		{"too large", "application/json", "Content-Length: 2000\r\n\r\n", "", 413},
		{"too large, in chunks", "application/json", "Transfer-Encoding: chunked\r\n\r\n", "7d0\r\n" + strings.Repeat(" ", 2000) + "\r\n0\r\n\r\n", 413},
		{"empty", "application/json", "Content-Length: 0\r\n\r\n", "", 400},
		{"bad chunk", "application/json", "Transfer-Encoding: chunked\r\n\r\n", "zz\r\n", 400},
		{"deep", "application/json", length(strings.Repeat("[", 900)), strings.Repeat("[", 900), 400},
	} {
		if status, body := post(c.contentType, c.more, c.body); status != c.status {
			t.Errorf("%s: %d %s, want %d", c.name, status, body, c.status)
		}
	}
	if status, body := s.raw("POST /api/generate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 23\r\n\r\n{\"model\":\"stories260k\"}"); status != 200 {
		t.Errorf("curl -d to Ollama's API = %d %s", status, body)
	}
}

// TestElementsAreCounted checks that a small body cannot become large lists.
func TestElementsAreCounted(t *testing.T) {
	list := func(n int) value { return value{"prompt", []byte("[" + strings.Repeat("1,", n-1) + "1]")} }
	if elements, err := list(maxParts).elements(); err != nil || len(elements) != maxParts {
		t.Errorf("%d elements, %v, want %d", len(elements), err, maxParts)
	}
	if _, err := list(maxParts + 1).elements(); err == nil || !strings.Contains(err.Error(), "prompt has more than 1048576 elements") {
		t.Errorf("one more: %v", err)
	}
	object := value{"logit_bias", []byte("{" + strings.Repeat(`"1":0,`, maxParts) + `"1":0}`)}
	if _, err := object.members(); err == nil || !strings.Contains(err.Error(), "logit_bias has more than 1048576 members") {
		t.Errorf("an object: %v", err)
	}
}
