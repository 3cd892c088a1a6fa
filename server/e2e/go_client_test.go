package e2e

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

func newClient() openai.Client {
	return openai.NewClient(option.WithBaseURL(serverURL+"/v1/"), option.WithAPIKey("unused"), option.WithMaxRetries(0))
}

// request is a greedy chat of a number of tokens.
func request(prompt string, maxTokens int64) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model:               model,
		Messages:            []openai.ChatCompletionMessageParamUnion{openai.UserMessage(prompt)},
		MaxCompletionTokens: openai.Int(maxTokens),
		Temperature:         openai.Float(0),
		Seed:                openai.Int(1),
	}
}

const prompt = "Once upon a time, there was a little girl named Lily."

func TestGoModels(t *testing.T) {
	client := newClient()
	page, err := client.Models.List(t.Context())
	if err != nil || len(page.Data) != 1 || page.Data[0].ID != model {
		t.Fatalf("models are %+v, %v", page, err)
	}
	if got, err := client.Models.Get(t.Context(), model); err != nil || got.ID != model {
		t.Errorf("model is %+v, %v", got, err)
	}
}

func TestGoChat(t *testing.T) {
	client := newClient()
	answer, err := client.Chat.Completions.New(t.Context(), request(prompt, 24))
	if err != nil {
		t.Fatal(err)
	}
	choice := answer.Choices[0]
	if choice.Message.Content == "" || choice.FinishReason != "length" || choice.Message.Role != "assistant" {
		t.Errorf("choice is %+v", choice)
	}
	if u := answer.Usage; u.CompletionTokens != 24 || u.PromptTokens == 0 || u.TotalTokens != u.PromptTokens+u.CompletionTokens {
		t.Errorf("usage is %+v", u)
	}
	if !strings.HasPrefix(answer.ID, "chatcmpl-") || answer.Model != model || answer.Created == 0 {
		t.Errorf("answer is %q of %q at %d", answer.ID, answer.Model, answer.Created)
	}
}

func TestGoStreamEqualsWhole(t *testing.T) {
	client := newClient()
	whole, err := client.Chat.Completions.New(t.Context(), request(prompt, 40))
	if err != nil {
		t.Fatal(err)
	}
	params := request(prompt, 40)
	params.StreamOptions.IncludeUsage = openai.Bool(true)
	stream := client.Chat.Completions.NewStreaming(t.Context(), params)
	accumulated := openai.ChatCompletionAccumulator{}
	chunks := 0
	for stream.Next() {
		chunks++
		if !accumulated.AddChunk(stream.Current()) {
			t.Fatalf("chunk %d does not fit the stream: %+v", chunks, stream.Current())
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	if got, want := accumulated.Choices[0].Message.Content, whole.Choices[0].Message.Content; got != want {
		t.Errorf("streamed %q, want %q", got, want)
	}
	if accumulated.Choices[0].FinishReason != "length" || accumulated.Usage.CompletionTokens != 40 || chunks < 10 {
		t.Errorf("stream of %d chunks ended with %q and usage %+v", chunks, accumulated.Choices[0].FinishReason, accumulated.Usage)
	}
}

func TestGoStop(t *testing.T) {
	client := newClient()
	whole, err := client.Chat.Completions.New(t.Context(), request(prompt, 60))
	if err != nil {
		t.Fatal(err)
	}
	text := whole.Choices[0].Message.Content
	stop := text[len(text)/2 : len(text)/2+5]
	params := request(prompt, 60)
	params.Stop.OfStringArray = []string{stop, "no such text"}
	stopped, err := client.Chat.Completions.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := stopped.Choices[0].Message.Content, text[:strings.Index(text, stop)]; got != want || stopped.Choices[0].FinishReason != "stop" {
		t.Errorf("stopped at %q with %q (%s), want %q", stop, got, stopped.Choices[0].FinishReason, want)
	}
}

func TestGoLogprobs(t *testing.T) {
	client := newClient()
	params := request(prompt, 12)
	params.Logprobs, params.TopLogprobs = openai.Bool(true), openai.Int(5)
	answer, err := client.Chat.Completions.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	tokens := answer.Choices[0].Logprobs.Content
	if len(tokens) != 12 {
		t.Fatalf("%d tokens have log-probabilities, want 12", len(tokens))
	}
	var text []byte
	for i, token := range tokens {
		for _, b := range token.Bytes {
			text = append(text, byte(b))
		}
		if len(token.TopLogprobs) != 5 || token.TopLogprobs[0].Token != token.Token || token.TopLogprobs[0].Logprob != token.Logprob {
			t.Errorf("token %d, drawn greedily, is not the first of its alternatives: %+v", i, token)
		}
		sum := 0.0
		for _, top := range token.TopLogprobs {
			sum += math.Exp(top.Logprob)
		}
		if sum > 1+1e-6 {
			t.Errorf("token %d: the alternatives' probabilities add up to %v", i, sum)
		}
	}
	if string(text) != answer.Choices[0].Message.Content {
		t.Errorf("the tokens' bytes spell %q, the content is %q", text, answer.Choices[0].Message.Content)
	}
}

func TestGoCompletions(t *testing.T) {
	client := newClient()
	answer, err := client.Completions.New(t.Context(), openai.CompletionNewParams{
		Model: model, Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String("The cat")},
		MaxTokens: openai.Int(8), Temperature: openai.Float(0), Echo: openai.Bool(true), N: openai.Int(2),
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Choices) != 2 || !strings.HasPrefix(answer.Choices[0].Text, "The cat") || answer.Choices[0].Text != answer.Choices[1].Text {
		t.Errorf("choices are %+v", answer.Choices)
	}
}

func TestGoErrors(t *testing.T) {
	client := newClient()
	long := request(strings.Repeat("a big red ball and ", 400), 10)
	unknown := request(prompt, 4)
	unknown.Model = "no-such-model"
	hot := request(prompt, 4)
	hot.Temperature = openai.Float(9)
	for name, test := range map[string]struct {
		params       openai.ChatCompletionNewParams
		status       int
		code, inText string
	}{
		"unknown model": {unknown, 404, "model_not_found", "no-such-model"},
		"too long":      {long, 400, "context_length_exceeded", "512"},
		"out of range":  {hot, 400, "", "temperature"},
		"no messages":   {openai.ChatCompletionNewParams{Model: model, Messages: []openai.ChatCompletionMessageParamUnion{}}, 400, "", "messages"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := client.Chat.Completions.New(t.Context(), test.params)
			var wire *openai.Error
			if !errors.As(err, &wire) {
				t.Fatalf("error is %v", err)
			}
			if wire.StatusCode != test.status || test.code != "" && wire.Code != test.code || !strings.Contains(wire.Message+wire.Param, test.inText) {
				t.Errorf("error is status %d, code %q, param %q, %q", wire.StatusCode, wire.Code, wire.Param, wire.Message)
			}
		})
	}
}

func TestGoAbort(t *testing.T) {
	client := newClient()
	ctx, cancel := context.WithCancel(t.Context())
	params := request(prompt, 400)
	stream := client.Chat.Completions.NewStreaming(ctx, params, option.WithJSONSet("ignore_eos", true))
	if !stream.Next() {
		t.Fatalf("no event: %v", stream.Err())
	}
	cancel()
	for stream.Next() {
	}
	eventually(func() bool { return metric(t, "hearth_sequences_running") == 0 }) // for ever, if an abandoned request still runs
}

func TestGoManyAtOnce(t *testing.T) {
	client := newClient()
	alone, err := client.Chat.Completions.New(t.Context(), request(prompt, 48))
	if err != nil {
		t.Fatal(err)
	}
	want := alone.Choices[0].Message.Content
	var clients sync.WaitGroup
	for i := range 32 {
		clients.Go(func() {
			stream := client.Chat.Completions.NewStreaming(t.Context(), request(prompt, 48))
			var text strings.Builder
			for stream.Next() {
				for _, choice := range stream.Current().Choices {
					text.WriteString(choice.Delta.Content)
				}
			}
			if err := stream.Err(); err != nil || text.String() != want {
				t.Errorf("client %d: %v, %q, want the answer that it gets alone: %q", i, err, text.String(), want)
			}
		})
	}
	clients.Wait()
}
