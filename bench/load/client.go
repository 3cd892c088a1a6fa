package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ollama/ollama/api"
)

// maxLine bounds one line of a stream.
const maxLine = 4 << 20

func newClient(o *Options) (client, error) {
	base, err := url.Parse(strings.TrimRight(o.Target, "/"))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("load: Target %q is not an http address", o.Target)
	}
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		MaxIdleConnsPerHost: 4096, // a connection for each concurrent request, kept between requests
		DisableCompression:  true,
	}
	httpClient := &http.Client{Transport: &bearer{key: o.APIKey, next: transport}}
	if o.Protocol == Ollama {
		return &ollamaClient{api: api.NewClient(base, httpClient)}, nil
	}
	base.Path = strings.TrimSuffix(base.Path, "/v1")
	return &openAIClient{base: base.String(), http: httpClient}, nil
}

// bearer adds the key to every request.
type bearer struct {
	key  string
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.key != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+b.key)
	}
	return b.next.RoundTrip(r)
}

// openAIClient speaks OpenAI's protocol.
type openAIClient struct {
	base string // without a trailing slash and without /v1
	http *http.Client
}

func (c *openAIClient) models(ctx context.Context) ([]string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/v1/models", nil)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, statusError(response)
	}
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxLine)).Decode(&list); err != nil {
		return nil, fmt.Errorf("list of models: %w", err)
	}
	names := make([]string, len(list.Data))
	for i, m := range list.Data {
		names[i] = m.ID
	}
	return names, nil
}

// chunk is the part of a stream's event that is measured.
type chunk struct {
	Choices []struct {
		Delta struct {
			Content   string `json:"content"`
			Reasoning string `json:"reasoning_content"`
		} `json:"delta"`
	} `json:"choices"`
	Usage *struct {
		PromptTokens     int `json:"prompt_tokens"`
		CompletionTokens int `json:"completion_tokens"`
		Details          struct {
			CachedTokens int `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
	} `json:"usage"`
	Error *struct {
		Message string `json:"message"`
	} `json:"error"`
}

func (c *openAIClient) chat(ctx context.Context, call call) (answer, error) {
	fields := map[string]any{
		"model": call.model, "messages": []map[string]string{{"role": "user", "content": call.prompt}},
		"max_tokens": call.maxTokens, "temperature": 0, "stream": true, "stream_options": map[string]bool{"include_usage": true},
	}
	if !call.stopEarly {
		fields["ignore_eos"] = true
	}
	body, err := json.Marshal(fields)
	if err != nil {
		return answer{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	a := answer{sent: time.Now()}
	response, err := c.http.Do(request)
	if err != nil {
		return a, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return a, statusError(response)
	}
	return a, a.readEvents(response.Body)
}

// readEvents reads server-sent events up to [DONE].
func (a *answer) readEvents(body io.Reader) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:"))
		if !ok {
			continue
		}
		data = bytes.TrimSpace(data)
		if string(data) == "[DONE]" {
			return a.finish()
		}
		var event chunk
		if err := json.Unmarshal(data, &event); err != nil {
			return fmt.Errorf("event %.80q: %w", data, err)
		}
		if event.Error != nil {
			return errors.New(event.Error.Message)
		}
		if u := event.Usage; u != nil {
			a.promptTokens, a.outputTokens, a.cachedTokens = u.PromptTokens, u.CompletionTokens, u.Details.CachedTokens
		}
		for _, choice := range event.Choices {
			if choice.Delta.Content != "" || choice.Delta.Reasoning != "" {
				a.pieces = append(a.pieces, time.Now())
			}
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return errors.New("the stream ended without [DONE]")
}

// finish notes the end, and refuses an answer that says nothing though the server counted tokens or none at all.
func (a *answer) finish() error {
	a.end = time.Now()
	if a.outputTokens == 0 {
		a.outputTokens = len(a.pieces) // servers without usage reports send a piece for each token
	}
	if len(a.pieces) == 0 {
		return errNoText
	}
	return nil
}

// statusError turns an error response into an error that names its status and its message.
func statusError(response *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10)) // whatever came says more than its read error
	var wire struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	message := strings.TrimSpace(string(body))
	if json.Unmarshal(body, &wire) == nil && wire.Error.Message != "" {
		message = wire.Error.Message
	}
	return fmt.Errorf("status %d: %.300s", response.StatusCode, message)
}

// ollamaClient speaks Ollama's protocol with its own client.
type ollamaClient struct{ api *api.Client }

func (c *ollamaClient) models(ctx context.Context) ([]string, error) {
	list, err := c.api.List(ctx)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(list.Models))
	for i, m := range list.Models {
		names[i] = m.Model
	}
	return names, nil
}

func (c *ollamaClient) chat(ctx context.Context, call call) (answer, error) {
	stream := true
	options := map[string]any{"temperature": 0, "num_predict": call.maxTokens}
	a := answer{sent: time.Now()}
	ended := false
	err := c.api.Chat(ctx, &api.ChatRequest{
		Model: call.model, Messages: []api.Message{{Role: "user", Content: call.prompt}}, Stream: &stream, Options: options,
	}, func(r api.ChatResponse) error {
		if r.Message.Content != "" || r.Message.Thinking != "" {
			a.pieces = append(a.pieces, time.Now())
		}
		if r.Done {
			ended = true
			a.promptTokens, a.outputTokens = r.PromptEvalCount, r.EvalCount
		}
		return nil
	})
	switch {
	case err != nil:
		return a, err
	case !ended:
		return a, errors.New("the stream ended without its last line")
	}
	return a, a.finish()
}
