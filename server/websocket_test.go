package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"hearth/engine"
	"hearth/engine/embedded"
	"hearth/sessions"
)

// testSocket is a client's end of a WebSocket.
type testSocket struct {
	t    testing.TB
	conn *websocket.Conn
	ctx  context.Context
}

// dial opens a WebSocket that is closed at the end of the test.
func (s *testServer) dial(header http.Header) *testSocket {
	s.t.Helper()
	conn, _, err := websocket.Dial(s.t.Context(), s.url+"/v1/responses", &websocket.DialOptions{HTTPClient: s.client, HTTPHeader: header})
	if err != nil {
		s.t.Fatal(err)
	}
	conn.SetReadLimit(1 << 20)
	s.t.Cleanup(func() { conn.CloseNow() })
	return &testSocket{s.t, conn, s.t.Context()}
}

// socketEvent is a message of the server as tests read it.
type socketEvent struct {
	responseEvent
	Lane   string `json:"stream_id"`
	Status int
	Error  *errorDetail
}

func (k *testSocket) send(message string) {
	k.t.Helper()
	if err := k.conn.Write(k.ctx, websocket.MessageText, []byte(message)); err != nil {
		k.t.Fatal(err)
	}
}

// create asks for a response with further fields.
func (k *testSocket) create(fields string) {
	k.t.Helper()
	k.send(fmt.Sprintf(`{"type":"response.create","model":%q%s}`, embedded.Name, furtherFields(fields)))
}

func (k *testSocket) read() socketEvent {
	k.t.Helper()
	_, data, err := k.conn.Read(k.ctx)
	if err != nil {
		k.t.Fatal(err)
	}
	validate(k.t, "ResponsesServerEvent", data)
	var e socketEvent
	if err := json.Unmarshal(data, &e); err != nil {
		k.t.Fatal(err)
	}
	return e
}

// response reads the events of one response, when no other one is running.
func (k *testSocket) response() *responseAnswer {
	k.t.Helper()
	var list []responseEvent
	for {
		e := k.read()
		if e.Error != nil {
			k.t.Fatalf("error %+v", *e.Error)
		}
		list = append(list, e.responseEvent)
		if e.Response != nil && e.Type != "response.created" && e.Type != "response.in_progress" {
			last, _ := checkSequence(k.t, list, 0)
			return last
		}
	}
}

// refused reads an error.
func (k *testSocket) refused(lane string, status int, code, param string) {
	k.t.Helper()
	e := k.read()
	if e.Type != "error" || e.Error == nil || e.Status != status || e.Lane != lane || *e.Error.Code != code || (e.Error.Param == nil) != (param == "") || e.Error.Param != nil && *e.Error.Param != param {
		k.t.Errorf("got %+v %+v, want an error in lane %q: %d %s about %q", e, e.Error, lane, status, code, param)
	}
}

// TestWebSocket goes on from responses that only the connection remembers, and from stored ones.
func TestWebSocket(t *testing.T) {
	s := startServer(t, Options{}, engine.Options{})
	k := s.dial(nil)
	const unstored = `"store":false,"max_output_tokens":16,`
	k.create(unstored + `"input":"Once upon a time"`)
	first := k.response()
	if first.Store || first.text() == "" {
		t.Fatalf("%+v", first)
	}
	k.create(unstored + fmt.Sprintf(`"input":"And then?","previous_response_id":%q`, first.ID))
	second := k.response()
	s.refused("GET", "/v1/responses/"+second.ID, "", 404, "not_found", "")

	// The same over HTTP, with the whole history in the input.
	history := fmt.Sprintf(`"input":[{"role":"user","content":"Once upon a time"},{"role":"assistant","content":%q},{"role":"user","content":"And then?"}]`, first.text())
	if whole := s.respond(unstored + history); whole.text() != second.text() {
		t.Errorf("the connection's history gives %q, the whole one %q", second.text(), whole.text())
	}
	// One that is stored has all that it goes on from, although that was not.
	k.create(fmt.Sprintf(`"input":"More!","previous_response_id":%q,"max_output_tokens":16`, second.ID))
	third := k.response()
	if list := decodeAnswer[itemList](t, s.ok("GET", "/v1/responses/"+third.ID+"/input_items?order=asc", "", "ResponseItemList")); len(list.Data) != 5 || list.Data[4].Content[0].Text != "More!" {
		t.Errorf("%+v", list)
	}
	fourth := s.respond(fmt.Sprintf(`"input":"More!","previous_response_id":%q,"max_output_tokens":16`, third.ID))
	k.create(fmt.Sprintf(`"input":"More!","previous_response_id":%q,"max_output_tokens":16`, third.ID))
	if again := k.response(); again.text() != fourth.text() {
		t.Errorf("%q over the WebSocket, %q over HTTP", again.text(), fourth.text())
	}
	other := s.dial(nil)
	other.create(fmt.Sprintf(`"input":"x","previous_response_id":%q`, second.ID))
	other.refused("", 400, "previous_response_not_found", "previous_response_id")
}

// TestLanes runs several streams at once: events come with their lane's name, in order, one response of a lane after the
// other; and a lane can go on from a response of another one.
func TestLanes(t *testing.T) {
	s := startServer(t, Options{}, engine.Options{})
	k := s.dial(nil)
	const lanes, turns = 4, 3
	for turn := range turns {
		for lane := range lanes {
			k.create(fmt.Sprintf(`"stream_id":"lane.%d","store":false,"max_output_tokens":%d,"input":"Once upon a time"`, lane, 16+4*turn+lane))
		}
	}
	next, ended := map[string]int{}, map[string]int{}
	var last *responseAnswer
	for done := 0; done < lanes*turns; {
		e := k.read()
		if e.Sequence != next[e.Lane] {
			t.Fatalf("lane %q: %s has the sequence number %d, want %d", e.Lane, e.Type, e.Sequence, next[e.Lane])
		}
		next[e.Lane]++
		if e.Type == "response.completed" || e.Type == "response.incomplete" {
			var lane int
			if _, err := fmt.Sscanf(e.Lane, "lane.%d", &lane); err != nil {
				t.Fatal(err)
			}
			if want := 16 + 4*ended[e.Lane] + lane; e.Response.Usage.OutputTokens != want {
				t.Errorf("lane %q: response %d has %d tokens, want %d: not in order", e.Lane, ended[e.Lane], e.Response.Usage.OutputTokens, want)
			}
			next[e.Lane], last = 0, e.Response
			ended[e.Lane]++
			done++
		}
	}
	k.create(fmt.Sprintf(`"stream_id":"fork","input":"And then?","previous_response_id":%q,"max_output_tokens":16`, last.ID))
	if fork := k.response(); *fork.Previous != last.ID {
		t.Errorf("%+v", fork)
	}
}

// TestWebSocketErrors wants a connection to say what is wrong with a message, and to go on.
func TestWebSocketErrors(t *testing.T) {
	k := sharedServer(t).dial(nil)
	for _, c := range []struct {
		message, lane string
		status        int
		code, param   string
	}{
		{`{`, "", 400, "invalid_value", ""},
		{`[]`, "", 400, "invalid_type", ""},
		{`{"stream_id":"a"}`, "a", 400, "missing_required_parameter", "type"},
		{`{"type":"response.cancel"}`, "", 400, "invalid_value", "type"},
		{`{"type":"response.create","stream_id":"a b"}`, "", 400, "invalid_value", "stream_id"},
		{`{"type":"response.create","stream_id":7}`, "", 400, "invalid_type", "stream_id"},
		{`{"type":"response.create","background":true}`, "", 400, "unsupported_parameter", "background"},
		{`{"type":"response.create","stream":false}`, "", 400, "unsupported_parameter", "stream"},
		{`{"type":"response.create","colour":"red","stream_id":"b"}`, "b", 400, "unknown_parameter", "colour"},
		{`{"type":"response.create","stream_id":"b"}`, "b", 400, "missing_required_parameter", "input"},
		{`{"type":"response.create","input":"x","model":"none","stream_id":"b"}`, "b", 404, "model_not_found", "model"},
	} {
		k.send(c.message)
		k.refused(c.lane, c.status, c.code, c.param)
	}
	if err := k.conn.Write(k.ctx, websocket.MessageBinary, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	k.refused("", 400, "invalid_value", "")
	k.create(`"input":"Once","max_output_tokens":16,"store":false`)
	if r := k.response(); r.text() == "" {
		t.Errorf("%+v", r)
	}
}

// TestSocketLimits fills a connection's lanes and a lane's queue.
func TestSocketLimits(t *testing.T) {
	k := &socket{s: &Server{opts: Options{MaxBodyBytes: 100}}, lanes: map[string]*lane{}}
	code := func(err error) string {
		wire, ok := errors.AsType[*wireError](err)
		if !ok {
			t.Fatalf("error %v", err)
		}
		return wire.Code
	}
	for i := range maxLanes {
		k.lanes[fmt.Sprint(i)] = &lane{} // busy with its only request
	}
	if got := code(k.queue(&responseRequest{lane: "another"})); got != "websocket_stream_limit_reached" {
		t.Errorf("one lane too many: %s", got)
	}
	for i := range maxQueued {
		if err := k.queue(&responseRequest{lane: "0"}); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	if got := code(k.queue(&responseRequest{lane: "0"})); got != "rate_limit_exceeded" {
		t.Errorf("one request too many: %s", got)
	}
	for _, bytes := range []int64{200, 1} { // a long one may wait, alone
		err := k.queue(&responseRequest{lane: "1", bytes: bytes})
		if bytes > 100 && err != nil || bytes == 1 && (err == nil || code(err) != "rate_limit_exceeded") {
			t.Errorf("a request of %d bytes: %v", bytes, err)
		}
	}
	if k.next("1"); k.queued != 0 {
		t.Errorf("%d bytes wait", k.queued)
	}
	k.lanes["2"].free = true // its only request is answered
	for i := range 1 + maxQueued {
		if err := k.queue(&responseRequest{lane: "2"}); err != nil {
			t.Fatalf("request %d in a lane that is free: %v", i, err)
		}
	}
	k.closing = true
	if err := k.queue(&responseRequest{lane: "1"}); !errors.Is(err, errDraining) {
		t.Errorf("a connection that closes: %v", err)
	}
}

// stuckLog lets the request lines wait until it is opened.
type stuckLog struct {
	*requestLog
	opened chan struct{}
}

// Handle is part of slog.Handler.
func (l *stuckLog) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "request" {
		<-l.opened
	}
	return l.requestLog.Handle(ctx, r)
}

// TestSocketRoom fills all lanes of a connection, and the queue of a lane: who has read the last event of a request may send
// another one, although the server has not done with the one before.
func TestSocketRoom(t *testing.T) {
	log := &stuckLog{newRequestLog(), make(chan struct{})}
	open := sync.OnceFunc(func() { close(log.opened) })
	s := serve(t, sharedServer(t).catalog, Options{Logger: slog.New(log)})
	t.Cleanup(open)
	k := s.dial(nil)
	ask := func(lane string) {
		k.create(fmt.Sprintf(`"store":false,"max_output_tokens":16,"input":"Once upon a time","stream_id":%q`, lane))
	}
	readUntil := func(reached func(string) bool) {
		t.Helper()
		for {
			_, data, err := k.conn.Read(k.ctx)
			if err != nil {
				t.Fatal(err)
			}
			var e struct{ Type string }
			if err := json.Unmarshal(data, &e); err != nil || e.Type == "error" {
				t.Fatalf("%s, %v", data, err)
			}
			if reached(e.Type) {
				return
			}
		}
	}
	for lane := range maxLanes {
		ask(fmt.Sprint(lane))
	}
	for range maxLanes {
		readUntil(sessions.EndsResponse)
	}
	ask("another")
	readUntil(sessions.EndsResponse)

	k = s.dial(nil)
	ask("full")
	readUntil(func(kind string) bool { return kind == "response.created" })
	for range maxQueued {
		ask("full")
	}
	readUntil(sessions.EndsResponse)
	ask("full")
	open()
	for range maxQueued + 1 {
		readUntil(sessions.EndsResponse)
	}
}

// TestSocketOrigin wants pages of other sites to be kept out, and what is no WebSocket to be told so.
func TestSocketOrigin(t *testing.T) {
	s := serve(t, sharedServer(t).catalog, Options{CORSOrigins: []string{"https://ours.example"}})
	for origin, want := range map[string]int{"https://theirs.example": 403, "https://ours.example": 101, s.url: 101, "": 101, "null": 403} {
		header := http.Header{}
		if origin != "" {
			header.Set("Origin", origin)
		}
		conn, resp, err := websocket.Dial(t.Context(), s.url+"/v1/responses", &websocket.DialOptions{HTTPHeader: header})
		if resp == nil || resp.StatusCode != want {
			t.Errorf("origin %q: %v, %v, want %d", origin, resp, err, want)
		}
		if conn != nil {
			conn.CloseNow()
		}
	}
	if a := s.get("/v1/responses"); a.status != 426 || !strings.Contains(string(a.body), "upgrade_required") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestSocketKey wants the key of a server that has keys.
func TestSocketKey(t *testing.T) {
	s := serve(t, sharedServer(t).catalog, Options{APIKeys: []APIKey{{Key: "secret"}}})
	_, resp, err := websocket.Dial(t.Context(), s.url+"/v1/responses", nil)
	if err == nil || resp == nil || resp.StatusCode != 401 {
		t.Errorf("without a key: %v, %v", resp, err)
	}
	s.dial(http.Header{"Authorization": {"Bearer secret"}})
}

// TestSocketDrain stops a server while a response is running: its client gets a last event, and the connection ends.
func TestSocketDrain(t *testing.T) {
	inBubble(t, Options{DrainTimeout: 10 * stepTime}, engine.Options{}, func(t *testing.T, s *testServer) {
		k := s.dial(nil)
		k.create(`"input":"Once upon a time","ignore_eos":true,"store":false`)
		for k.read().Type != "response.output_text.delta" {
		}
		s.stop()
		if last := k.drain(); last == nil || last.Status != "failed" {
			t.Errorf("the last event has %+v, want a response that failed", last)
		}
	})
}

// drain reads what comes until the server ends the connection, and returns the last response.
func (k *testSocket) drain() (last *responseAnswer) {
	k.t.Helper()
	for {
		_, data, err := k.conn.Read(k.ctx)
		if err != nil {
			if status := websocket.CloseStatus(err); status != websocket.StatusGoingAway {
				k.t.Errorf("the connection ended with %v", err)
			}
			return last
		}
		var e socketEvent
		if err := json.Unmarshal(data, &e); err != nil {
			k.t.Fatal(err)
		}
		if e.Response != nil {
			last = e.Response
		}
	}
}
