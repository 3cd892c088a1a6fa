package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"hearth/sessions"
	"hearth/sessions/database"
)

// A WebSocket carries responses in both directions: a client's messages ask for them, and the server's are their events.
//
//	client  {"type":"response.create", fields of POST /v1/responses, "stream_id":"a"}
//	server  {"type":"response.created", …, "stream_id":"a"}   the events of POST /v1/responses, one a message
//	        {"type":"error","status":400,"error":{…},"stream_id":"a"}
//
// Requests of one stream_id form a lane: they are answered one after the other, in order. Lanes run side by side. Requests
// without a stream_id form a lane of their own. Responses that are not stored are remembered as long as the connection
// lasts, so that any lane can go on from them.
//
// A socket has the goroutine of its request, which starts the others and waits for them: one that reads, one that pings,
// and one for each lane that has requests.

// Limits of a connection.
const (
	maxLanes      = 16        // with requests at a time; as many more may be free and not gone yet
	maxQueued     = 32        // requests of one lane that wait; those of all lanes are together no longer than one may be
	maxConnection = time.Hour // OpenAI's
)

// laneName is what OpenAI's API allows as a stream_id.
var laneName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,256}$`)

// socketFields is a message of a client: the body of POST /v1/responses, and which lane it is for.
var socketFields = append([]field[responseRequest]{
	{name: "type", use: honoured, read: func(_ *responseRequest, v value) error {
		_, err := v.oneOf("response.create")
		return err
	}},
	{name: "stream_id", use: honoured, read: func(*responseRequest, value) error { return nil }}, // read first
	refuse[responseRequest]("stream", "events are always sent over a WebSocket", "true"),
	refuse[responseRequest]("background", "a response over a WebSocket is for the connection", "false"),
}, slices.DeleteFunc(slices.Clone(responseFields), func(f field[responseRequest]) bool {
	return f.name == "stream" || f.name == "background"
})...)

// socket is one WebSocket.
type socket struct {
	s      *Server
	x      *exchange // of the request that became the connection
	conn   *websocket.Conn
	ctx    context.Context // of the responses in progress
	cancel context.CancelCauseFunc
	memory sessions.ResponseMemory

	mu      sync.Mutex // guards lanes and what is in them, queued, closing
	lanes   map[string]*lane
	queued  int64 // bytes of the requests that wait
	closing bool  // no further requests are taken
	running sync.WaitGroup
}

// lane is a lane whose requests are answered. It makes room before a request's last event is written: whoever has read that
// may count on it.
type lane struct {
	waiting []*responseRequest
	next    *responseRequest // is answered when the last event of the request before is written; waits no more
	free    bool             // there is no next one, and of the last one no more than its last event is still to be written
}

// responseSocket answers GET /v1/responses, which becomes a WebSocket.
func (s *Server) responseSocket(x *exchange) error {
	if !strings.EqualFold(x.c.Request.Header.Get("Upgrade"), "websocket") {
		x.header().Set("Upgrade", "websocket")
		return &wireError{Status: http.StatusUpgradeRequired, Type: typeInvalidRequest, Code: "upgrade_required",
			Message: "GET /v1/responses is for WebSockets; a response is fetched by its id"}
	}
	if err := s.checkSocketOrigin(x.c.Request); err != nil {
		return err
	}
	stopping, leave, ok := s.sockets.enter()
	if !ok {
		return errDraining
	}
	defer leave()
	conn, err := websocket.Accept(x.c.Writer, x.c.Request, &websocket.AcceptOptions{InsecureSkipVerify: true}) // checked above
	if err != nil {
		return nil // Accept has answered
	}
	conn.SetReadLimit(s.opts.MaxBodyBytes)
	k := &socket{s: s, x: x, conn: conn, lanes: map[string]*lane{}}
	k.ctx, k.cancel = context.WithCancelCause(x.ctx)
	k.serve(stopping)
	return nil
}

// checkSocketOrigin refuses connections that another site's page opens: browsers send the origin, and let pages connect to
// any host.
func (s *Server) checkSocketOrigin(r *http.Request) error {
	origin := r.Header.Get("Origin")
	if origin == "" || s.anyOrigin || slices.Contains(s.opts.CORSOrigins, origin) {
		return nil
	}
	if u, err := url.Parse(origin); err == nil && strings.EqualFold(u.Host, r.Host) {
		return nil
	}
	return forbidden("origin_not_allowed", "pages of "+shorten(origin)+" may not use this server")
}

// serve answers requests until the connection ends, has lasted long enough, or the server stops; then it answers those
// that it has.
func (k *socket) serve(stopping <-chan struct{}) {
	gone := make(chan struct{})
	var attendants sync.WaitGroup
	attendants.Go(func() {
		defer close(gone)
		defer k.cancel(context.Canceled) // nobody is there to be answered
		k.read()
	})
	attendants.Go(func() { k.ping(gone) })
	status, reason := websocket.StatusGoingAway, "the server is shutting down"
	select {
	case <-gone:
	case <-stopping:
	case <-k.x.ctx.Done():
		if errors.Is(context.Cause(k.x.ctx), errDeadline) {
			status, reason = websocket.StatusPolicyViolation, "the connection has lasted as long as it may"
			k.fail("", &wireError{Status: http.StatusBadRequest, Type: typeInvalidRequest, Code: "websocket_connection_limit_reached", Message: reason + "; open another one"})
		}
	}
	k.mu.Lock()
	k.closing = true
	k.mu.Unlock()
	k.running.Wait()
	_ = k.conn.Close(status, reason) // the client may be gone
	attendants.Wait()
}

// read takes requests until the connection ends.
func (k *socket) read() {
	for {
		kind, data, err := k.conn.Read(context.WithoutCancel(k.ctx)) // ending a read ends the connection
		if err != nil {
			return
		}
		if kind != websocket.MessageText {
			k.fail("", invalidRequest("", "messages are JSON texts"))
			continue
		}
		if lane, err := k.take(data); err != nil {
			k.fail(lane, err)
		}
	}
}

// ping finds out about clients that went away without a word.
func (k *socket) ping(gone <-chan struct{}) {
	ticker := time.NewTicker(k.s.opts.KeepAlive)
	defer ticker.Stop()
	for {
		select {
		case <-gone:
			return
		case <-ticker.C:
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(k.ctx), k.s.opts.WriteTimeout)
		if err := k.conn.Ping(ctx); err != nil {
			_ = k.conn.CloseNow() // ends the read
		}
		cancel()
	}
}

// take reads a message and queues its request. It returns the lane that an error is for.
func (k *socket) take(data []byte) (lane string, err error) {
	v, err := parseValue(data)
	if err != nil {
		return "", err
	}
	members, err := v.members()
	if err != nil {
		return "", err
	}
	for _, m := range members {
		if m.name == "stream_id" && !m.isNull() {
			if lane, err = m.text(); err != nil {
				return "", err
			}
			if !laneName.MatchString(lane) {
				return "", m.invalid("must be 1 to 256 letters, digits, '_', '.' or '-', got %q", shorten(lane))
			}
		}
	}
	if !hasMember(members, "type") {
		return lane, missing("type")
	}
	r := newResponseRequest()
	r.stream, r.lane, r.bytes = true, lane, int64(len(data))
	if err := decode(socketFields, v, r); err != nil {
		return lane, err
	}
	return lane, k.queue(r)
}

// queue adds a request to its lane, and starts the lane if it has nothing to do.
func (k *socket) queue(r *responseRequest) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	l, known := k.lanes[r.lane]
	if !known {
		l = &lane{free: true}
	}
	switch {
	case k.closing:
		return errDraining
	case l.free && k.busy() >= maxLanes, !known && len(k.lanes) >= 2*maxLanes:
		return &wireError{Status: http.StatusTooManyRequests, Type: typeRateLimit, Code: "websocket_stream_limit_reached",
			Message: "as many streams are busy as a connection may have; wait for one to end, or open another connection"}
	case len(l.waiting) >= maxQueued || k.queued > 0 && k.queued+r.bytes > k.s.opts.MaxBodyBytes:
		return &wireError{Status: http.StatusTooManyRequests, Type: typeRateLimit, Code: "rate_limit_exceeded",
			Message: "too many requests wait in this stream, or too long ones in this connection; wait for some to end"}
	}
	l.waiting = append(l.waiting, r)
	k.queued += r.bytes
	if l.free { // there is none before it to wait for
		k.advance(l)
		l.free = false
	}
	if !known {
		k.lanes[r.lane] = l
		k.running.Go(func() { k.run(r.lane) })
	}
	return nil
}

// busy returns how many lanes are not free.
func (k *socket) busy() int {
	n := 0
	for _, l := range k.lanes {
		if !l.free {
			n++
		}
	}
	return n
}

// run answers the requests of a lane until there is none left.
func (k *socket) run(lane string) {
	for r := k.next(lane); r != nil; r = k.next(lane) {
		k.answer(r)
	}
}

// next returns the next request of a lane; nil says that the lane is gone.
func (k *socket) next(lane string) *responseRequest {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.lanes[lane]
	k.advance(l)
	r := l.next
	if l.next = nil; r == nil {
		delete(k.lanes, lane)
	}
	return r
}

// advance takes the next request of a lane out of those that wait, unless one was taken.
func (k *socket) advance(l *lane) {
	if l.next == nil && len(l.waiting) > 0 {
		l.next, l.waiting = l.waiting[0], l.waiting[1:]
		k.queued -= l.next.bytes
	}
}

// ending counts a request as answered, and makes room for another one, before its last event is written.
func (k *socket) ending(x *exchange, lane string, status int) {
	x.ended(status)
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.lanes[lane]
	k.advance(l)
	l.free = l.next == nil
}

// answer runs one request. It is a request like any other in the log and the metrics.
func (k *socket) answer(r *responseRequest) {
	ctx, cancel := context.WithTimeoutCause(k.ctx, k.s.opts.RequestTimeout, errDeadline)
	defer cancel()
	s := k.s
	x := &exchange{s: s, c: k.x.c, ctx: ctx, route: k.x.route, id: s.opts.NewID("req_"), tenant: k.x.tenant, started: s.opts.Now()}
	status := http.StatusOK
	defer func() { x.conclude(status) }()
	defer func() {
		if p := recover(); p != nil {
			x.err, x.reason, x.failed, status = x.panicked(p), "internal_error", http.StatusInternalServerError, http.StatusInternalServerError
			k.ending(x, r.lane, status)
			k.fail(r.lane, x.err)
		}
	}()
	if err := k.respond(x, r); err != nil {
		wire := toWire(err, x.id)
		x.err, x.reason, x.failed, status = err, wire.Code, wire.Status, wire.Status
		k.ending(x, r.lane, status)
		k.fail(r.lane, wire)
	}
}

func (k *socket) respond(x *exchange, r *responseRequest) error {
	run, err := k.s.respond(x, r, &k.memory)
	if err != nil {
		return err
	}
	defer func() { x.reason = run.Status() }()
	defer run.Close() // its error is for the client, who has been told by then
	ending := func() {
		x.reason = run.Status()
		k.ending(x, r.lane, http.StatusOK)
	}
	// The run ends with its context, and its last event says so: that one is still to be read.
	read := func(from int) ([]database.Event, error) { return run.Events(context.WithoutCancel(x.ctx), from) }
	write := func(_ string, event []byte) error { return k.write(event) }
	return x.relay(eventOptions{obfuscate: r.obfuscate, lane: r.lane, ending: ending}, read, write)
}

// write sends one message. A client that does not take it in time loses the connection.
func (k *socket) write(text []byte) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(k.ctx), k.s.opts.WriteTimeout)
	defer cancel()
	if err := k.conn.Write(ctx, websocket.MessageText, text); err != nil {
		return fmt.Errorf("server: write to the client: %w: %w", context.Canceled, err)
	}
	return nil
}

// socketError is an error over a WebSocket, where it is the only thing that says what became of a request.
type socketError struct {
	Type   string      `json:"type"` // "error"
	Status int         `json:"status"`
	Error  errorDetail `json:"error"`
	Lane   string      `json:"stream_id,omitempty"`
}

// fail tells the client about an error of a request of a lane.
func (k *socket) fail(lane string, err error) {
	wire := toWire(err, k.x.id)
	detail := errorDetail{wire.Message, wire.Type, orNull(wire.Param), orNull(wire.Code)}
	var buf bytes.Buffer
	if err := encodeJSON(&buf, socketError{"error", wire.Status, detail, lane}); err == nil {
		_ = k.write(buf.Bytes()) // the client may be gone
	}
}

// sockets counts the connections of a server that are no longer HTTP, for which it has to wait itself.
type sockets struct {
	mu       sync.Mutex // guards stopped
	stopped  bool
	stopping chan struct{} // closed when the server stops
	open     sync.WaitGroup
}

// enter counts a connection until it leaves; a server that stops takes none.
func (s *sockets) enter() (stopping <-chan struct{}, leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil, nil, false
	}
	s.open.Add(1)
	return s.stopping, s.open.Done, true
}

// stop asks all connections to end.
func (s *sockets) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.stopped = true
		close(s.stopping)
	}
}

// wait returns when all connections have ended, or with ctx.
func (s *sockets) wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		s.open.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
