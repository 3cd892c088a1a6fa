package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hearth/engine"
	"hearth/engine/embedded"
)

// chatChunks reads a stream of chat events, all but the end mark.
func chatChunks(t *testing.T, a answer) []chatChunk {
	t.Helper()
	list := events(t, a.body)
	if list[len(list)-1] != "[DONE]" {
		t.Fatalf("the stream ends in %s", list[len(list)-1])
	}
	var chunks []chatChunk
	for _, e := range list[:len(list)-1] {
		validate(t, "CreateChatCompletionStreamResponse", []byte(e))
		var c chatChunk
		if err := json.Unmarshal([]byte(e), &c); err != nil {
			t.Fatal(err)
		}
		chunks = append(chunks, c)
	}
	return chunks
}

// TestChatStreamOrder checks the rules that clients rely on, for several choices at once: the role first, then text,
// then the finish reason with an empty delta, then the usage; the same id and time throughout; and the same text as
// without a stream.
func TestChatStreamOrder(t *testing.T) {
	s := sharedServer(t)
	const fields = `"n":3,"max_tokens":9,"temperature":1,"seed":11,"stop":["to","Lily"]`
	whole := decodeAnswer[chatCompletion](t, s.post("/v1/chat/completions", chatBody(fields)))
	chunks := chatChunks(t, s.post("/v1/chat/completions", chatBody(fields+`,"stream":true,"stream_options":{"include_usage":true}`)))
	var text [3]strings.Builder
	var begun, ended [3]bool
	for i, c := range chunks {
		if c.ID != chunks[0].ID || c.Created != chunks[0].Created || c.Object != "chat.completion.chunk" {
			t.Errorf("chunk %d: id %s, created %d, object %s", i, c.ID, c.Created, c.Object)
		}
		if i == len(chunks)-1 {
			var u usage
			if err := json.Unmarshal(c.Usage, &u); err != nil || len(c.Choices) != 0 {
				t.Errorf("the last chunk is %+v, want no choices and the usage", c)
			}
			if u.PromptTokens != whole.Usage.PromptTokens || u.CompletionTokens != whole.Usage.CompletionTokens || u.TotalTokens != u.PromptTokens+u.CompletionTokens {
				t.Errorf("usage %+v, without a stream %+v", u, *whole.Usage)
			}
			break
		}
		if string(c.Usage) != "null" || len(c.Choices) != 1 {
			t.Fatalf("chunk %d: usage %s, %d choices", i, c.Usage, len(c.Choices))
		}
		choice := c.Choices[0]
		k := choice.Index
		switch {
		case ended[k]:
			t.Errorf("chunk %d comes after the end of choice %d", i, k)
		case !begun[k]:
			begun[k] = true
			if choice.Delta.Role != "assistant" || choice.Delta.Content == nil || *choice.Delta.Content != "" {
				t.Errorf("choice %d begins with %+v", k, choice.Delta)
			}
		case choice.FinishReason != nil:
			ended[k] = true
			if choice.Delta.Role != "" || !choice.Delta.isEmpty() || *choice.FinishReason != whole.Choices[k].FinishReason {
				t.Errorf("choice %d ends with %+v, %s, without a stream %s", k, choice.Delta, *choice.FinishReason, whole.Choices[k].FinishReason)
			}
		default:
			text[k].WriteString(*choice.Delta.Content)
		}
	}
	for k := range text {
		if text[k].String() != whole.Choices[k].Message.Content || !ended[k] {
			t.Errorf("choice %d: streamed %q, whole %q, ended %v", k, &text[k], whole.Choices[k].Message.Content, ended[k])
		}
	}
	if whole.Choices[0].Message.Content == whole.Choices[1].Message.Content {
		t.Errorf("the choices are the same: %q", whole.Choices[0].Message.Content)
	}
}

// TestSeed checks that the same seed gives the same text, alone and as one of several prompts.
func TestSeed(t *testing.T) {
	s := sharedServer(t)
	ask := func(prompt string, seed int) []completionChoice {
		return decodeAnswer[completion](t, s.post("/v1/completions", completionBody(prompt, fmt.Sprintf(`"temperature":1,"max_tokens":12,"seed":%d`, seed)))).Choices
	}
	alone, again, other := ask(`"One day"`, 5)[0].Text, ask(`["Lily","One day"]`, 5)[1].Text, ask(`"One day"`, 6)[0].Text
	if alone != again || alone == other {
		t.Errorf("seed 5: %q and %q; seed 6: %q", alone, again, other)
	}
}

// TestCachedTokens checks that a prompt's second run finds its blocks, that the answer counts them, and that
// cache_prompt false neither finds nor leaves any.
func TestCachedTokens(t *testing.T) {
	s := startServer(t, Options{}, engine.Options{})
	prompt := fmt.Sprintf("%q", strings.Repeat("Once upon a time there was a girl. ", 20))
	ask := func(fields string) *usage {
		var u usage
		if err := json.Unmarshal(decodeAnswer[completion](t, s.post("/v1/completions", completionBody(prompt, `"max_tokens":2`+fields))).Usage, &u); err != nil {
			t.Fatal(err)
		}
		return &u
	}
	for _, c := range []struct {
		name, fields string
		cached       bool
	}{
		{"apart", `,"cache_prompt":false`, false}, {"first", ``, false}, {"second", ``, true},
		{"apart again", `,"cache_prompt":false`, false}, {"several", `,"n":2`, true},
	} {
		u := ask(c.fields)
		if cached := u.PromptDetails.CachedTokens; (cached > 0) != c.cached || cached > u.PromptTokens {
			t.Errorf("%s: %d of %d tokens cached, want any: %v", c.name, cached, u.PromptTokens, c.cached)
		}
	}
}

// TestEcho checks the tokens, log-probabilities and offsets of an echoed prompt against each other.
func TestEcho(t *testing.T) {
	s := sharedServer(t)
	c := decodeAnswer[completion](t, s.post("/v1/completions", completionBody(`"Tom said: été, 日 good"`, `"max_tokens":4,"echo":true,"logprobs":2`)))
	l, text := c.Choices[0].Logprobs, []rune(c.Choices[0].Text)
	if !strings.HasPrefix(string(text), "Tom said: été, 日 good") {
		t.Errorf("text %q does not begin with the prompt", string(text))
	}
	n := len(l.Tokens)
	if len(l.TokenLogprobs) != n || len(l.TopLogprobs) != n || len(l.TextOffset) != n || n < 10 {
		t.Fatalf("%d tokens, %d logprobs, %d tops, %d offsets", n, len(l.TokenLogprobs), len(l.TopLogprobs), len(l.TextOffset))
	}
	for i, at := range l.TextOffset {
		token := []rune(strings.TrimPrefix(l.Tokens[i], " "))
		if i > 0 && at < l.TextOffset[i-1] || at > len(text) {
			t.Errorf("token %d begins at %d after %d", i, at, l.TextOffset[max(i-1, 0)])
		}
		if rest := string(text[at:]); !strings.ContainsRune(l.Tokens[i], '\uFFFD') && l.Tokens[i] != "<s>" && !strings.HasPrefix(strings.TrimPrefix(rest, " "), string(token)) {
			t.Errorf("token %d is %q, the text at %d goes %q", i, l.Tokens[i], at, rest)
		}
	}
}

// UnmarshalJSON reads the object of a test's answer; its order is not kept.
func (t *topLogprobs) UnmarshalJSON(data []byte) error {
	var object map[string]float32
	return json.Unmarshal(data, &object)
}

// TestLogprobsAreProbabilities checks that alternatives are sorted, and that their probabilities do not exceed one.
func TestLogprobsAreProbabilities(t *testing.T) {
	s := sharedServer(t)
	c := decodeAnswer[struct {
		Choices []struct {
			Message  struct{ Content string }
			Logprobs struct {
				Content []struct {
					Token       string
					Logprob     float64
					Bytes       []int
					TopLogprobs []struct{ Logprob float64 } `json:"top_logprobs"`
				}
			}
		}
	}](t, s.post("/v1/chat/completions", chatBody(`"max_tokens":10,"logprobs":true,"top_logprobs":20`)))
	text := ""
	for i, token := range c.Choices[0].Logprobs.Content {
		sum, last := 0.0, 0.0
		for _, top := range token.TopLogprobs {
			if top.Logprob > last {
				t.Errorf("token %d: alternatives are not sorted", i)
			}
			last = top.Logprob
			sum += math.Exp(top.Logprob)
		}
		if len(token.TopLogprobs) != 20 || sum > 1.0001 || token.TopLogprobs[0].Logprob != token.Logprob {
			t.Errorf("token %d: %d alternatives of %g together; greedy took %g of %g", i, len(token.TopLogprobs), sum, token.Logprob, token.TopLogprobs[0].Logprob)
		}
		text += token.Token
	}
	if text != c.Choices[0].Message.Content {
		t.Errorf("the tokens make %q, the message is %q", text, c.Choices[0].Message.Content)
	}
}

// TestModelIDs checks that ids with slashes, colons and spaces are found raw and encoded.
func TestModelIDs(t *testing.T) {
	s := startServer(t, Options{}, engine.Options{})
	const id = "org/name:7b q"
	if _, err := s.catalog.Load(context.Background(), "", id, s.engineOpts); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"org/name:7b%20q", "org%2Fname%3A7b%20q", "org%2fname:7b%20q"} {
		a := s.get("/v1/models/" + path)
		validate(t, "Model", a.body)
		if m := decodeAnswer[modelObject](t, a); a.status != 200 || m.ID != id {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	a := s.get("/v1/models")
	validate(t, "ListModelsResponse", a.body)
	if list := decodeAnswer[modelList](t, a); len(list.Data) != 2 || list.Data[0].ID != embedded.Name || list.Data[1].ID != id {
		t.Errorf("%s", a.body)
	}
	if a := s.post("/v1/completions", fmt.Sprintf(`{"model":%q,"prompt":"x","max_tokens":1}`, id)); a.status != 200 || decodeAnswer[completion](t, a).Model != id {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestKeepAlive checks that a stream with nothing to say gives signs of life, and that clients can skip them.
func TestKeepAlive(t *testing.T) {
	inBubble(t, Options{KeepAlive: stepTime / 2}, engine.Options{}, func(t *testing.T, s *testServer) {
		a := s.post("/v1/chat/completions", chatBody(`"max_tokens":5,"stream":true`))
		if !strings.Contains(string(a.body), ": keep-alive\n\n") {
			t.Errorf("no comment in %s", a.body)
		}
		if chunks := chatChunks(t, a); len(chunks) != 7 {
			t.Errorf("%d chunks, want the role, 5 tokens and the end", len(chunks))
		}
	})
}

// TestEngineEndsMidStream checks that a stream whose engine stops ends in an error event, without the end mark.
func TestEngineEndsMidStream(t *testing.T) {
	for path, body := range map[string]string{
		"/v1/chat/completions": chatBody(`"stream":true,"ignore_eos":true`),
		"/v1/completions":      completionBody(`"Once"`, `"stream":true,"ignore_eos":true,"max_tokens":500`),
		"/api/chat":            `{"model":"stories260k","messages":[{"role":"user","content":"Once upon a time"}],"options":{"temperature":0}}`,
	} {
		inBubble(t, Options{}, engine.Options{}, func(t *testing.T, s *testServer) {
			first, reader := s.begin(t.Context(), path, body)
			if err := s.catalog.Close(); err != nil {
				t.Fatal(err)
			}
			rest := readRest(t, reader)
			lines := strings.Split(strings.TrimSpace(first+rest), "\n")
			last := strings.TrimPrefix(lines[len(lines)-1], "data: ")
			if path == "/api/chat" {
				var e ollamaError
				if err := json.Unmarshal([]byte(last), &e); err != nil || e.Error == "" {
					t.Errorf("%s ends in %s", path, last)
				}
				return
			}
			validate(t, "ErrorResponse", []byte(last))
			if strings.Contains(rest, "[DONE]") {
				t.Errorf("%s: an end mark after the error", path)
			}
		})
	}
}

// TestBusy checks that a full queue is 429 with the time to wait, and that what was admitted is answered.
func TestBusy(t *testing.T) {
	inBubble(t, Options{}, engine.Options{MaxSequences: 1, MaxWaiting: 1}, func(t *testing.T, s *testServer) {
		const clients = 12
		statuses := make([]int, clients)
		var wait sync.WaitGroup
		for i := range clients {
			wait.Go(func() {
				resp, err := s.client.Post(s.url+"/v1/chat/completions", "application/json", strings.NewReader(chatBody(`"max_tokens":9,"ignore_eos":true`)))
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Error(err)
				}
				statuses[i] = resp.StatusCode
				if resp.StatusCode == 429 && (resp.Header.Get("Retry-After") == "" || !strings.Contains(string(body), `"rate_limit_exceeded"`)) {
					t.Errorf("429 with headers %v and body %s", resp.Header, body)
				}
			})
		}
		wait.Wait()
		count := map[int]int{}
		for _, status := range statuses {
			count[status]++
		}
		if count[200] != 2 || count[429] != clients-2 {
			t.Errorf("statuses %v, want two 200 and the rest 429", count)
		}
	})
}

// TestDeadline checks that an answer which takes too long is an error, before and after the first byte.
func TestDeadline(t *testing.T) {
	inBubble(t, Options{RequestTimeout: 5*stepTime + stepTime/2}, engine.Options{}, func(t *testing.T, s *testServer) {
		a := s.post("/v1/chat/completions", chatBody(`"ignore_eos":true,"n":8`))
		if a.status != 504 || !strings.Contains(string(a.body), `"request_timeout"`) {
			t.Errorf("%d %s, want 504", a.status, a.body)
		}
		a = s.post("/v1/chat/completions", chatBody(`"ignore_eos":true,"n":8,"stream":true`))
		list := events(t, a.body)
		if last := list[len(list)-1]; a.status != 200 || len(list) < 8 || !strings.Contains(last, `"request_timeout"`) {
			t.Errorf("a stream of %d events, with status %d, ends in %s", len(list), a.status, last)
		}
	})
}

// TestTokenizeRoundTrip checks that ids become the text again, and that the pieces are the text's bytes.
func TestTokenizeRoundTrip(t *testing.T) {
	s := sharedServer(t)
	const text = "Lily said: été 日 \U0001F600"
	ids := decodeAnswer[struct{ Tokens []int32 }](t, s.post("/tokenize", fmt.Sprintf(`{"content":%q}`, text))).Tokens
	request, err := json.Marshal(map[string]any{"tokens": ids})
	if err != nil {
		t.Fatal(err)
	}
	if got := decodeAnswer[struct{ Content, Prompt string }](t, s.post("/detokenize", string(request))); got.Content != text || got.Prompt != text {
		t.Errorf("%q became %d tokens and then %+v", text, len(ids), got)
	}
	pieces := decodeAnswer[struct {
		Tokens []struct {
			ID    int32
			Piece json.RawMessage
		}
	}](t, s.post("/tokenize", fmt.Sprintf(`{"content":%q,"with_pieces":true}`, text))).Tokens
	var joined []byte
	for _, p := range pieces {
		var piece string
		var raw []int
		if json.Unmarshal(p.Piece, &piece) == nil {
			joined = append(joined, piece...)
		} else if json.Unmarshal(p.Piece, &raw) == nil {
			for _, b := range raw {
				joined = append(joined, byte(b))
			}
		}
	}
	if got := strings.TrimPrefix(string(joined), " "); got != text || len(pieces) != len(ids) {
		t.Errorf("the pieces make %q, want %q", got, text)
	}
}

// TestPrediction sends the answer itself as the prediction: it is accepted, and the answer stays the same. Every step takes
// as long by the engine's clock, so that guesses pay.
func TestPrediction(t *testing.T) {
	ask := func(s *testServer, fields string) *chatCompletion {
		a := decodeAnswer[chatCompletion](t, s.post("/v1/chat/completions", chatBody(`"temperature":0,"max_tokens":60`+fields)))
		return &a
	}
	var ticks atomic.Int64
	tick := func() time.Time { return time.UnixMilli(ticks.Add(1)) }
	s := startServer(t, Options{}, engine.Options{Speculate: engine.SpeculateAuto, Now: tick})
	plain := ask(sharedServer(t), "")
	text := plain.Choices[0].Message.Content
	half := len(text) / 2
	for name, content := range map[string]string{
		"text":  fmt.Sprintf("%q", text),
		"parts": fmt.Sprintf(`[{"type":"text","text":%q},{"type":"text","text":%q}]`, text[:half], text[half:]),
	} {
		a := ask(s, `,"prediction":{"type":"content","content":`+content+`}`)
		details := a.Usage.CompletionParts
		if a.Choices[0].Message.Content != text || a.Usage.CompletionTokens != plain.Usage.CompletionTokens {
			t.Errorf("%s: %q, without a prediction %q", name, a.Choices[0].Message.Content, text)
		}
		if details.AcceptedPredictionTokens < 5 || details.AcceptedPredictionTokens > a.Usage.CompletionTokens || details.RejectedPredictionTokens < 0 {
			t.Errorf("%s: usage %+v", name, details)
		}
	}
	for _, c := range []struct{ prediction, param string }{
		{`"text"`, "prediction"}, {`{"type":"content"}`, "prediction.content"}, {`{"content":"a"}`, "prediction.type"},
		{`{"type":"tokens","content":"a"}`, "prediction.type"}, {`{"type":"content","content":3}`, "prediction.content"},
		{`{"type":"content","content":[{"type":"image_url"}]}`, "prediction.content[0].type"},
		{`{"type":"content","content":[{"type":"text"}]}`, "prediction.content[0].text"},
	} {
		if a := s.post("/v1/chat/completions", chatBody(`"prediction":`+c.prediction)); a.status != 400 || !strings.Contains(string(a.body), fmt.Sprintf("%q", c.param)) {
			t.Errorf("prediction %s: %d %s, want 400 naming %s", c.prediction, a.status, a.body, c.param)
		}
	}
}
