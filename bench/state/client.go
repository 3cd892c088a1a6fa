package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// message is one of a chat.
type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// token is one drawn token. Two runs that computed the same agree in both fields, bit by bit.
type token struct {
	Text    string  `json:"token"`
	Logprob float64 `json:"logprob"`
}

// answer is what came of a request.
type answer struct {
	text    string
	tokens  []token
	prompt  int
	cached  int
	first   time.Duration // until the first text
	elapsed time.Duration // until the end
}

// statusError is an answer with another status than 200.
type statusError struct {
	status int
	body   string
}

func (e *statusError) Error() string { return fmt.Sprintf("HTTP status %d: %s", e.status, e.body) }

// do sends a request and returns the answer's body.
func (s *server) do(ctx context.Context, method, path string, body any) ([]byte, error) {
	response, err := s.open(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return io.ReadAll(response.Body)
}

func (s *server) get(ctx context.Context, path string) ([]byte, error) {
	return s.do(ctx, http.MethodGet, path, nil)
}

// call sends a request and decodes its answer.
func (s *server) call(ctx context.Context, method, path string, body, into any) error {
	data, err := s.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s %s answered %.200q: %w", method, path, data, err)
	}
	return nil
}

// open sends a request; the caller closes the body of the answer, whose status is 200.
func (s *server) open(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var reader io.Reader
	contentType := "application/json"
	switch body := body.(type) {
	case nil:
	case []byte:
		reader, contentType = bytes.NewReader(body), archiveType
	default:
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, s.url+path, reader)
	if err != nil {
		return nil, err
	}
	if body != nil {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<12)) // the status says enough
		return nil, &statusError{response.StatusCode, string(text)}
	}
	return response, nil
}

// printable bans every token of the vocabulary of bytes that is no printable ASCII character, so that the text of an
// answer has its tokens: clients that send it back send the same ones.
var printable = func() map[string]float64 {
	bias := map[string]float64{}
	for id := range 259 {
		if id < ' ' || id > '~' {
			bias[strconv.Itoa(id)] = -100
		}
	}
	return bias
}()

// chat asks for an answer of so many tokens to a whole history, greedily. A stop function that returns true ends it early.
func (s *server) chat(ctx context.Context, history []message, tokens int, stop func(*answer) bool) (*answer, error) {
	request := map[string]any{
		"model": s.model.name, "messages": history, "max_tokens": tokens, "temperature": 0, "ignore_eos": true,
		"logprobs": true, "stream": true, "stream_options": map[string]bool{"include_usage": true},
	}
	if s.model.path != "" {
		request["logit_bias"] = printable
	}
	sent := time.Now()
	response, err := s.open(ctx, http.MethodPost, "/v1/chat/completions", request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	a := &answer{}
	scan := bufio.NewScanner(response.Body)
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		data, ok := strings.CutPrefix(scan.Text(), "data: ")
		if !ok {
			continue
		}
		if data == "[DONE]" {
			a.elapsed = time.Since(sent)
			return a, nil
		}
		if err := a.add([]byte(data), sent); err != nil {
			return nil, err
		}
		if stop != nil && stop(a) {
			return a, nil
		}
	}
	if err := scan.Err(); err != nil {
		return nil, err
	}
	return nil, io.ErrUnexpectedEOF
}

// chunk is one event of a streamed chat completion.
type chunk struct {
	Choices []struct {
		Delta    struct{ Content string }
		Logprobs *struct{ Content []token }
	}
	Usage *struct {
		PromptTokens        int `json:"prompt_tokens"`
		PromptTokensDetails struct {
			CachedTokens int `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
	}
	Error *struct{ Message string }
}

func (a *answer) add(data []byte, sent time.Time) error {
	var c chunk
	if err := json.Unmarshal(data, &c); err != nil {
		return fmt.Errorf("event %.200q: %w", data, err)
	}
	if c.Error != nil {
		return fmt.Errorf("the stream ended with an error: %s", c.Error.Message)
	}
	for _, choice := range c.Choices {
		if choice.Delta.Content != "" && a.first == 0 {
			a.first = time.Since(sent)
		}
		a.text += choice.Delta.Content
		if choice.Logprobs != nil {
			a.tokens = append(a.tokens, choice.Logprobs.Content...)
		}
	}
	if c.Usage != nil {
		a.prompt, a.cached = c.Usage.PromptTokens, c.Usage.PromptTokensDetails.CachedTokens
	}
	return nil
}

// sameTokens compares two answers, of which the shorter one may be the beginning of the other.
func sameTokens(a, b *answer) error {
	n := min(len(a.tokens), len(b.tokens))
	if n == 0 {
		return fmt.Errorf("an answer has no tokens: %q and %q", a.text, b.text)
	}
	if slices.Equal(a.tokens[:n], b.tokens[:n]) {
		return nil
	}
	i := 0
	for a.tokens[i] == b.tokens[i] {
		i++
	}
	return fmt.Errorf("token %d of %d is %q (log-probability %v) and %q (%v)", i, n, a.tokens[i].Text, a.tokens[i].Logprob, b.tokens[i].Text, b.tokens[i].Logprob)
}
