package sessions

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"hearth/engine/api"
	"hearth/sessions/database"
	"hearth/sessions/items"
)

// responseEvent is one event of a streamed response. Every event has type and sequence number; the other fields are
// those of its type.
type responseEvent struct {
	Type         string          `json:"type"`
	Sequence     int             `json:"sequence_number"`
	Response     *ResponseObject `json:"response,omitempty"`
	ItemID       string          `json:"item_id,omitempty"`
	OutputIndex  *int            `json:"output_index,omitempty"`
	ContentIndex *int            `json:"content_index,omitempty"`
	Item         any             `json:"item,omitempty"`
	Part         any             `json:"part,omitempty"`
	Delta        *string         `json:"delta,omitempty"`
	Text         *string         `json:"text,omitempty"`
	Name         string          `json:"name,omitempty"`
	Arguments    *string         `json:"arguments,omitempty"`
	Input        *string         `json:"input,omitempty"`
	Logprobs     *[]TokenLogprob `json:"logprobs,omitempty"`
}

// The output items and their parts, in the API's form.
type (
	messageItem struct {
		Type    string `json:"type"` // "message"
		ID      string `json:"id"`
		Status  string `json:"status"`
		Role    string `json:"role"` // "assistant"
		Content []any  `json:"content"`
	}
	textPart struct {
		Type        string         `json:"type"` // "output_text"
		Text        string         `json:"text"`
		Annotations []string       `json:"annotations"`
		Logprobs    []TokenLogprob `json:"logprobs"`
	}
	reasoningItem struct {
		Type      string  `json:"type"` // "reasoning"
		ID        string  `json:"id"`
		Status    string  `json:"status"`
		Summary   []any   `json:"summary"`
		Content   []any   `json:"content"`
		Encrypted *string `json:"encrypted_content,omitempty"`
	}
	reasoningPart struct {
		Type string `json:"type"` // "reasoning_text"
		Text string `json:"text"`
	}
	callItem struct {
		Type      string `json:"type"` // "function_call"
		ID        string `json:"id"`
		Status    string `json:"status"`
		CallID    string `json:"call_id"`
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	}
	customItem struct {
		Type   string `json:"type"` // "custom_tool_call"
		ID     string `json:"id"`
		Status string `json:"status"`
		CallID string `json:"call_id"`
		Name   string `json:"name"`
		Input  string `json:"input"`
	}
)

// itemKind is what an output item is.
type itemKind uint8

const (
	kindReasoning itemKind = iota + 1
	kindMessage
	kindCall
	kindCustom // the call of a custom tool, whose input is known once its arguments are
)

// outputItem is the output item that grows.
type outputItem struct {
	kind     itemKind
	id       string
	text     strings.Builder // reasoning, text or arguments
	logprobs []TokenLogprob  // of a message's text, when asked for
	call     int             // index among the calls
	callID   string
	name     string
}

// responseWriter makes events and output items of the deltas of a turn. The order of the events is the one that clients
// rely on:
//
//	created · [queued] · in_progress · for each item: added, its parts and deltas, done · completed, incomplete or failed
//
// Output indexes count from 0 in the order in which items are added, one item after the other: an item is done before the
// next one is added. Sequence numbers count from 0 without gaps.
//
// It belongs to one goroutine.
type responseWriter struct {
	object ResponseObject
	newID  func(prefix string) string
	now    func() time.Time
	seal   func(reasoning string) string // makes the encrypted content of reasoning items; nil: they have none

	custom   []string // names of custom tools, which the model sees as functions of one text
	quiet    bool     // no events are wanted, only the object
	logprobs bool

	sequence int
	events   []database.Event // that nobody has taken yet
	output   []database.Item  // items that are done
	open     *outputItem
}

// take returns the events since the last call.
func (w *responseWriter) take() []database.Event {
	events := w.events
	w.events = nil
	return events
}

func (w *responseWriter) emit(e responseEvent) {
	if w.quiet {
		return
	}
	e.Sequence = w.sequence
	w.sequence++
	w.events = append(w.events, database.Event{Sequence: e.Sequence, JSON: marshal(e)})
}

// emitResponse adds an event that carries the response as it is now.
func (w *responseWriter) emitResponse(kind string) {
	object := w.object
	w.emit(responseEvent{Type: kind, Response: &object})
}

// begin emits the events before the first item.
func (w *responseWriter) begin() {
	w.object.Output = []json.RawMessage{}
	if w.object.Background {
		w.object.Status = StatusQueued
		w.emitResponse("response.created")
		w.emitResponse("response.queued")
	} else {
		w.object.Status = StatusInProgress
		w.emitResponse("response.created")
	}
}

// started says that the model is at work.
func (w *responseWriter) started() {
	w.object.Status = StatusInProgress
	w.emitResponse("response.in_progress")
}

// delta adds the events of a delta.
func (w *responseWriter) delta(d *Delta) {
	if d.Reasoning != "" {
		w.into(kindReasoning)
		w.grow("response.reasoning_text.delta", d.Reasoning, nil)
	}
	if d.Text != "" {
		w.into(kindMessage)
		logprobs := []TokenLogprob{}
		if w.logprobs {
			logprobs = append(logprobs, d.Tokens...)
			w.open.logprobs = append(w.open.logprobs, d.Tokens...)
		}
		w.grow("response.output_text.delta", d.Text, &logprobs)
	}
	for i := range d.Calls {
		w.callDelta(&d.Calls[i])
	}
}

func (w *responseWriter) callDelta(c *CallDelta) {
	if w.open == nil || !w.open.isCall() || w.open.call != c.Index {
		w.close(StatusCompleted)
		w.open = &outputItem{kind: kindCall, id: w.newID("fc_"), call: c.Index, callID: c.ID, name: c.Name}
		if slices.Contains(w.custom, c.Name) {
			w.open.kind, w.open.id = kindCustom, w.newID("ctc_")
		}
		w.added()
	}
	switch {
	case c.Arguments == "":
	case w.open.kind == kindCustom:
		w.open.text.WriteString(c.Arguments)
	default:
		w.grow("response.function_call_arguments.delta", c.Arguments, nil)
	}
}

// customText is the input of a custom tool in the arguments of the function that stands for it: its one member. What a
// model wrote instead of such arguments is the input as it is.
func customText(arguments string) string {
	var object map[string]json.RawMessage
	var text string
	if json.Unmarshal([]byte(arguments), &object) != nil || len(object) != 1 || json.Unmarshal(object[items.CustomInput], &text) != nil {
		return arguments
	}
	return text
}

func (o *outputItem) isCall() bool { return o.kind >= kindCall }

// into makes the open item one of this kind.
func (w *responseWriter) into(kind itemKind) {
	if w.open != nil && w.open.kind == kind {
		return
	}
	w.close(StatusCompleted)
	prefix := "msg_"
	if kind == kindReasoning {
		prefix = "rs_"
	}
	w.open = &outputItem{kind: kind, id: w.newID(prefix)}
	w.added()
	w.emit(w.about(responseEvent{Type: "response.content_part.added", Part: w.open.part()}))
}

func (w *responseWriter) added() {
	w.emit(responseEvent{Type: "response.output_item.added", OutputIndex: w.index(), Item: w.open.item(StatusInProgress, []any{}, nil)})
}

// index is the output index of the open item.
func (w *responseWriter) index() *int {
	i := len(w.output)
	return &i
}

// about adds to an event which part of which item it is about.
func (w *responseWriter) about(e responseEvent) responseEvent {
	e.ItemID, e.OutputIndex = w.open.id, w.index()
	if !w.open.isCall() {
		e.ContentIndex = new(int)
	}
	return e
}

// grow appends text to the open item.
func (w *responseWriter) grow(kind, text string, logprobs *[]TokenLogprob) {
	w.open.text.WriteString(text)
	w.emit(w.about(responseEvent{Type: kind, Delta: &text, Logprobs: logprobs}))
}

// close ends the open item, if there is one.
func (w *responseWriter) close(status string) {
	o := w.open
	if o == nil {
		return
	}
	text := o.text.String()
	switch o.kind {
	case kindReasoning:
		w.emit(w.about(responseEvent{Type: "response.reasoning_text.done", Text: &text}))
	case kindMessage:
		logprobs := append([]TokenLogprob{}, o.logprobs...)
		w.emit(w.about(responseEvent{Type: "response.output_text.done", Text: &text, Logprobs: &logprobs}))
	case kindCall:
		w.emit(w.about(responseEvent{Type: "response.function_call_arguments.done", Name: o.name, Arguments: &text}))
	case kindCustom:
		input := customText(text)
		w.emit(w.about(responseEvent{Type: "response.custom_tool_call_input.delta", Delta: &input}))
		w.emit(w.about(responseEvent{Type: "response.custom_tool_call_input.done", Input: &input}))
	}
	if !o.isCall() {
		w.emit(w.about(responseEvent{Type: "response.content_part.done", Part: o.part()}))
	}
	item := o.item(status, o.content(), w.sealed())
	w.emit(responseEvent{Type: "response.output_item.done", OutputIndex: w.index(), Item: item})
	w.keep(status, item)
}

// sealed is the encrypted content of the open item, nil if it has none.
func (w *responseWriter) sealed() *string {
	if w.seal == nil || w.open.kind != kindReasoning {
		return nil
	}
	sealed := w.seal(w.open.text.String())
	return &sealed
}

// whole adds an item that did not grow.
func (w *responseWriter) whole(item items.Item, row database.Item) {
	w.close(StatusCompleted)
	w.emit(responseEvent{Type: "response.output_item.added", OutputIndex: w.index(), Item: item.JSON})
	w.emit(responseEvent{Type: "response.output_item.done", OutputIndex: w.index(), Item: item.JSON})
	w.output = append(w.output, row)
	w.object.Output = append(w.object.Output, row.JSON)
}

// keep makes the open item one of the output, which it is from now on.
func (w *responseWriter) keep(status string, item any) {
	o := w.open
	stored := database.Item{ID: o.id, Status: status, Created: w.now(), JSON: marshal(item), Text: o.text.String()}
	switch o.kind {
	case kindReasoning:
		stored.Type = "reasoning"
	case kindMessage:
		stored.Type, stored.Role = "message", "assistant"
	case kindCall:
		stored.Type, stored.Text = "function_call", o.name+"\n"+stored.Text
	case kindCustom:
		stored.Type, stored.Text = "custom_tool_call", o.name+"\n"+customText(stored.Text)
	}
	w.output = append(w.output, stored)
	w.object.Output = append(w.object.Output, stored.JSON)
	w.open = nil
}

// part is the content part of the item as it is now.
func (o *outputItem) part() any {
	if o.kind == kindReasoning {
		return reasoningPart{"reasoning_text", o.text.String()}
	}
	return textPart{"output_text", o.text.String(), []string{}, append([]TokenLogprob{}, o.logprobs...)}
}

// content is all that the item has so far.
func (o *outputItem) content() []any {
	if o.isCall() {
		return nil
	}
	return []any{o.part()}
}

// item is the item with this content.
func (o *outputItem) item(status string, content []any, encrypted *string) any {
	switch o.kind {
	case kindReasoning:
		return reasoningItem{Type: "reasoning", ID: o.id, Status: status, Summary: []any{}, Content: content, Encrypted: encrypted}
	case kindMessage:
		return messageItem{Type: "message", ID: o.id, Status: status, Role: "assistant", Content: content}
	case kindCustom:
		return customItem{Type: "custom_tool_call", ID: o.id, Status: status, CallID: o.callID, Name: o.name, Input: customText(o.text.String())}
	}
	return callItem{Type: "function_call", ID: o.id, Status: status, CallID: o.callID, Name: o.name, Arguments: o.text.String()}
}

// finish ends a response whose turn ended by itself: complete, or cut by a limit.
func (w *responseWriter) finish(f *Finish) {
	w.object.Usage = NewResponseUsage(&f.Usage, f.ReasoningTokens)
	if f.Reason == api.FinishLength {
		w.close(StatusIncomplete)
	} else {
		if w.open == nil && len(w.output) == 0 { // the model said nothing, which is an answer too
			w.into(kindMessage)
		}
		w.close(StatusCompleted)
	}
	if f.Reason == api.FinishLength {
		w.object.Status = StatusIncomplete
		w.object.IncompleteDetails = &IncompleteDetails{"max_output_tokens"}
		w.emitResponse("response.incomplete")
		return
	}
	completed := w.now().Unix()
	w.object.Status, w.object.CompletedAt = StatusCompleted, &completed
	w.emitResponse("response.completed")
}

// ended reports whether the response has ended by itself.
func (w *responseWriter) ended() bool {
	return w.object.Status == StatusCompleted || w.object.Status == StatusIncomplete
}

// fail ends a response that could not be finished. A cancelled one ends the same way, without an error: the API has no
// event of its own for it. What the item in progress has so far is kept.
func (w *responseWriter) fail(usage *ResponseUsage, why *ResponseError) {
	status := StatusIncomplete
	w.object.Status, w.object.Error, w.object.Usage = StatusFailed, why, usage
	if why == nil {
		w.object.Status, status = StatusCancelled, StatusInProgress
	}
	if w.open != nil {
		w.keep(status, w.open.item(status, w.open.content(), nil))
	}
	w.emitResponse("response.failed")
}

// marshal writes a value of our own types, for which it cannot fail. Text stays as it is: escaping <, > and & is for JSON
// inside HTML.
func marshal(v any) json.RawMessage {
	var buf strings.Builder
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("sessions: " + err.Error())
	}
	return json.RawMessage(strings.TrimSuffix(buf.String(), "\n"))
}
