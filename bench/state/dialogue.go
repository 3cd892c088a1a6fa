package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// dialogue is a client's conversation. What it says is always the same, so that two dialogues of one seed must hear the
// same answers, whatever happens to the servers that give them.
type dialogue interface {
	// ask says what comes next and returns the answer.
	ask(ctx context.Context, s *server) (*answer, error)
	// recover is called on the next server after ask ended in an error. It checks that everything is there that was
	// acknowledged. When the interrupted turn was kept as a whole its answer is returned, else nil.
	recover(ctx context.Context, s *server) (*answer, error)
}

const (
	dialogueTurns  = 5
	dialogueOpener = 600 // tokens of the first message
	dialogueAnswer = 16
)

// question is what a dialogue says in a turn.
func question(seed uint64, turn int) string {
	if turn == 0 {
		return prose(seed, dialogueOpener)
	}
	return fmt.Sprintf("Question %d: %s?", turn, prose(seed+uint64(turn)<<32, 20))
}

// resending is a dialogue that sends its whole history each time, as clients of chat completions do.
type resending struct {
	seed    uint64
	history []message
}

func (d *resending) ask(ctx context.Context, s *server) (*answer, error) {
	next := append(slices.Clip(d.history), message{"user", question(d.seed, len(d.history)/2)})
	a, err := s.chat(ctx, next, dialogueAnswer, nil)
	if err == nil {
		d.history = append(next, message{"assistant", a.text})
	}
	return a, err
}

// recover has nothing to check: the client has everything.
func (d *resending) recover(context.Context, *server) (*answer, error) { return nil, nil }

// conversing is a dialogue whose history the server keeps.
type conversing struct {
	seed     uint64
	id       string    // of the conversation
	turns    int       // that were answered
	said     []message // what the server acknowledged
	response string    // id of the last response
}

// item is one element of a conversation.
type item struct {
	ID      string `json:"id"`
	Type    string `json:"type"`
	Role    string `json:"role"`
	Content []struct {
		Text string `json:"text"`
	} `json:"content"`
}

func (i *item) message() message {
	var text strings.Builder
	for _, part := range i.Content {
		text.WriteString(part.Text)
	}
	return message{i.Role, text.String()}
}

// response is the answer of the Responses API.
type response struct {
	ID     string          `json:"id"`
	Status string          `json:"status"`
	Error  json.RawMessage `json:"error"`
	Output []item          `json:"output"`
	Usage  struct {
		InputTokens        int `json:"input_tokens"`
		InputTokensDetails struct {
			CachedTokens int `json:"cached_tokens"`
		} `json:"input_tokens_details"`
	} `json:"usage"`
}

func (r *response) answer() *answer {
	a := &answer{prompt: r.Usage.InputTokens, cached: r.Usage.InputTokensDetails.CachedTokens}
	for i := range r.Output {
		a.text += r.Output[i].message().Content
	}
	return a
}

// respond asks for the next turn of a conversation.
func (s *server) respond(ctx context.Context, conversation, input string, tokens int) (*response, error) {
	var r response
	err := s.call(ctx, http.MethodPost, "/v1/responses", s.responseRequest(conversation, input, tokens), &r)
	if err == nil && r.Status != "completed" && r.Status != "incomplete" {
		err = fmt.Errorf("response %s is %s: %s", r.ID, r.Status, r.Error)
	}
	return &r, err
}

func (s *server) responseRequest(conversation, input string, tokens int) map[string]any {
	request := map[string]any{
		"model": s.model.name, "conversation": conversation, "input": input, "max_output_tokens": tokens, "temperature": 0, "ignore_eos": true,
	}
	if s.model.path != "" {
		request["logit_bias"] = printable
	}
	return request
}

// stream asks for the next turn too, and notes when its first text comes.
func (s *server) stream(ctx context.Context, conversation, input string, tokens int) (*answer, error) {
	request := s.responseRequest(conversation, input, tokens)
	request["stream"] = true
	sent := time.Now()
	body, err := s.open(ctx, http.MethodPost, "/v1/responses", request)
	if err != nil {
		return nil, err
	}
	defer body.Body.Close()
	scan := bufio.NewScanner(body.Body)
	scan.Buffer(nil, 1<<20)
	first := time.Duration(0)
	for scan.Scan() {
		data, ok := strings.CutPrefix(scan.Text(), "data: ")
		if !ok {
			continue
		}
		var event struct {
			Type     string   `json:"type"`
			Message  string   `json:"message"`
			Response response `json:"response"`
		}
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			return nil, fmt.Errorf("event %.200q: %w", data, err)
		}
		switch event.Type {
		case "response.output_text.delta":
			if first == 0 {
				first = time.Since(sent)
			}
		case "response.completed", "response.incomplete":
			a := event.Response.answer()
			a.first, a.elapsed = first, time.Since(sent)
			return a, nil
		case "response.failed", "error":
			return nil, fmt.Errorf("the response failed: %s %s", event.Message, event.Response.Error)
		}
	}
	if err := scan.Err(); err != nil {
		return nil, err
	}
	return nil, io.ErrUnexpectedEOF
}

// converse opens a conversation.
func (s *server) converse(ctx context.Context) (id string, err error) {
	var created struct {
		ID string `json:"id"`
	}
	err = s.call(ctx, http.MethodPost, "/v1/conversations", map[string]any{}, &created)
	return created.ID, err
}

// items reads all of a conversation.
func (s *server) items(ctx context.Context, conversation string) ([]message, error) {
	var list []message
	after := ""
	for {
		var page struct {
			Data    []item `json:"data"`
			HasMore bool   `json:"has_more"`
			LastID  string `json:"last_id"`
		}
		path := "/v1/conversations/" + conversation + "/items?order=asc&limit=100"
		if after != "" {
			path += "&after=" + url.QueryEscape(after)
		}
		if err := s.call(ctx, http.MethodGet, path, nil, &page); err != nil {
			return nil, err
		}
		for i := range page.Data {
			list = append(list, page.Data[i].message())
		}
		if !page.HasMore {
			return list, nil
		}
		after = page.LastID
	}
}

func (d *conversing) ask(ctx context.Context, s *server) (*answer, error) {
	if d.id == "" {
		id, err := s.converse(ctx)
		if err != nil {
			return nil, err
		}
		d.id = id
	}
	r, err := s.respond(ctx, d.id, question(d.seed, d.turns), dialogueAnswer)
	if err != nil {
		return nil, err
	}
	a := r.answer()
	d.response = r.ID
	d.acknowledge(a)
	return a, nil
}

func (d *conversing) acknowledge(a *answer) {
	d.said = append(d.said, message{"user", question(d.seed, d.turns)}, message{"assistant", a.text})
	d.turns++
}

// recover reads the conversation again. A turn is kept whole or not at all.
func (d *conversing) recover(ctx context.Context, s *server) (*answer, error) {
	if d.id == "" {
		return nil, nil
	}
	kept, err := s.items(ctx, d.id)
	if err != nil {
		return nil, err
	}
	if len(kept) < len(d.said) || !slices.Equal(kept[:len(d.said)], d.said) {
		return nil, lost("conversation %s has %d items, %d were acknowledged:\n%.500q\n%.500q", d.id, len(kept), len(d.said), kept, d.said)
	}
	if d.response != "" {
		var r response
		if err := s.call(ctx, http.MethodGet, "/v1/responses/"+d.response, nil, &r); err != nil {
			return nil, err
		}
		if want := d.said[len(d.said)-1].Content; r.answer().text != want {
			return nil, lost("response %s says %q, acknowledged was %q", d.response, r.answer().text, want)
		}
	}
	switch further := kept[len(d.said):]; {
	case len(further) == 0:
		return nil, nil
	case len(further) == 2 && further[0] == (message{"user", question(d.seed, d.turns)}) && further[1].Role == "assistant":
		a := &answer{text: further[1].Content}
		d.response = "" // the crash came before its id was known
		d.acknowledge(a)
		return a, nil
	default:
		return nil, lost("conversation %s has a part of a turn: %.500q", d.id, further)
	}
}

// lostError says that something acknowledged is not there.
type lostError struct{ what string }

func (e *lostError) Error() string { return e.what }

func lost(format string, args ...any) error { return &lostError{fmt.Sprintf(format, args...)} }
