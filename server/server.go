package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"

	"hearth/sessions"
)

// wireFormat is whose API a route belongs to: errors look as its clients expect.
type wireFormat uint8

const (
	wireOpenAI wireFormat = iota
	wireOllama
	wireResponses // as OpenAI's, with flat errors within streams
)

// route is one line of the table of everything the server answers.
type route struct {
	method    string
	path      string
	scope     scope
	wire      wireFormat
	bodyLimit int64         // 0: the body is not read
	deadline  time.Duration // for the whole answer
	handle    func(*Server, *exchange) error
}

// Deadlines of routes that compute nothing, without and with the database.
const quickly, storing = 10 * time.Second, 30 * time.Second

// routes is the table. A new route needs a line here, and with it a scope, a body limit and a deadline.
func routes(o *Options) []route {
	generating, large := o.RequestTimeout, o.MaxBodyBytes
	return []route{
		{"POST", "/v1/chat/completions", scopeInference, wireOpenAI, large, generating, (*Server).chatCompletions},
		{"GET", "/v1/chat/completions", scopeInference, wireOpenAI, 0, storing, (*Server).listCompletions},
		{"GET", "/v1/chat/completions/:id", scopeInference, wireOpenAI, 0, storing, (*Server).getCompletion},
		{"POST", "/v1/chat/completions/:id", scopeInference, wireOpenAI, large, storing, (*Server).updateCompletion},
		{"DELETE", "/v1/chat/completions/:id", scopeInference, wireOpenAI, 0, storing, (*Server).deleteCompletion},
		{"GET", "/v1/chat/completions/:id/messages", scopeInference, wireOpenAI, 0, storing, (*Server).listCompletionMessages},
		{"POST", "/v1/completions", scopeInference, wireOpenAI, large, generating, (*Server).completions},
		{"POST", "/v1/responses", scopeInference, wireResponses, large, generating, (*Server).createResponse},
		{"POST", "/v1/responses/input_tokens", scopeInference, wireResponses, large, time.Minute, (*Server).inputTokens},
		{"POST", "/v1/responses/compact", scopeInference, wireResponses, large, generating, (*Server).compactResponse},
		{"GET", "/v1/responses", scopeInference, wireResponses, 0, maxConnection, (*Server).responseSocket},
		{"GET", "/v1/responses/:id", scopeInference, wireResponses, 0, generating, (*Server).getResponse},
		{"DELETE", "/v1/responses/:id", scopeInference, wireResponses, 0, time.Minute, (*Server).deleteResponse},
		{"POST", "/v1/responses/:id/cancel", scopeInference, wireResponses, large, time.Minute, (*Server).cancelResponse},
		{"GET", "/v1/responses/:id/input_items", scopeInference, wireResponses, 0, quickly, (*Server).listInputItems},
		{"GET", "/v1/models", scopeInference, wireOpenAI, 0, quickly, (*Server).listModels},
		{"GET", "/v1/models/*id", scopeInference, wireOpenAI, 0, quickly, (*Server).getModel}, // ids have slashes
		{"POST", "/v1/conversations", scopeInference, wireOpenAI, large, storing, (*Server).createConversation},
		{"GET", "/v1/conversations/:id", scopeInference, wireOpenAI, 0, storing, (*Server).getConversation},
		{"POST", "/v1/conversations/:id", scopeInference, wireOpenAI, large, storing, (*Server).updateConversation},
		{"DELETE", "/v1/conversations/:id", scopeInference, wireOpenAI, 0, storing, (*Server).deleteConversation},
		{"POST", "/v1/conversations/:id/items", scopeInference, wireOpenAI, large, storing, (*Server).addConversationItems},
		{"GET", "/v1/conversations/:id/items", scopeInference, wireOpenAI, 0, storing, (*Server).listConversationItems},
		{"GET", "/v1/conversations/:id/items/:item", scopeInference, wireOpenAI, 0, storing, (*Server).getConversationItem},
		{"DELETE", "/v1/conversations/:id/items/:item", scopeInference, wireOpenAI, 0, storing, (*Server).deleteConversationItem},
		{"POST", "/v1/sessions", scopeInference, wireOpenAI, large, storing, (*Server).createSession},
		{"GET", "/v1/sessions", scopeInference, wireOpenAI, 0, storing, (*Server).listSessions},
		{"GET", "/v1/sessions/search", scopeInference, wireOpenAI, 0, storing, (*Server).searchSessions},
		{"GET", "/v1/sessions/:id", scopeInference, wireOpenAI, 0, storing, (*Server).getSession},
		{"POST", "/v1/sessions/:id", scopeInference, wireOpenAI, large, storing, (*Server).updateSession},
		{"DELETE", "/v1/sessions/:id", scopeInference, wireOpenAI, 0, time.Minute, (*Server).deleteSession},
		{"GET", "/v1/sessions/:id/items", scopeInference, wireOpenAI, 0, storing, (*Server).listConversationItems},
		{"POST", "/v1/sessions/:id/fork", scopeInference, wireOpenAI, large, storing, (*Server).forkSession},
		{"POST", "/v1/sessions/:id/rewind", scopeInference, wireOpenAI, large, time.Minute, (*Server).rewindSession},
		{"POST", "/v1/sessions/:id/pin", scopeInference, wireOpenAI, large, time.Minute, (*Server).pinSession},
		{"POST", "/v1/sessions/:id/evict", scopeInference, wireOpenAI, large, time.Minute, (*Server).evictSession},
		{"GET", "/v1/sessions/:id/export", scopeInference, wireOpenAI, 0, generating, (*Server).exportSession},
		{"POST", "/v1/sessions/import", scopeInference, wireOpenAI, o.MaxImportBytes, generating, (*Server).importSession},
		{"POST", "/tokenize", scopeInference, wireOpenAI, large, time.Minute, (*Server).tokenize},
		{"POST", "/detokenize", scopeInference, wireOpenAI, large, time.Minute, (*Server).detokenize},
		{"GET", "/health", scopePublic, wireOpenAI, 0, quickly, (*Server).health},
		{"GET", "/version", scopePublic, wireOpenAI, 0, quickly, (*Server).version},
		{"GET", "/metrics", scopeMetrics, wireOpenAI, 0, quickly, (*Server).writeMetrics},

		{"GET", "/", scopePublic, wireOllama, 0, quickly, (*Server).ollamaRunning},
		{"HEAD", "/", scopePublic, wireOllama, 0, quickly, (*Server).ollamaRunning},
		{"GET", "/api/version", scopePublic, wireOllama, 0, quickly, (*Server).ollamaVersion},
		{"GET", "/api/tags", scopeInference, wireOllama, 0, quickly, (*Server).ollamaTags},
		{"GET", "/api/ps", scopeInference, wireOllama, 0, quickly, (*Server).ollamaProcesses},
		{"POST", "/api/show", scopeInference, wireOllama, large, quickly, (*Server).ollamaShow},
		{"POST", "/api/chat", scopeInference, wireOllama, large, generating, (*Server).ollamaChat},
		{"POST", "/api/generate", scopeInference, wireOllama, large, generating, (*Server).ollamaGenerate},
	}
}

// Server answers HTTP requests. Its methods are safe for concurrent use.
type Server struct {
	opts    Options
	store   *sessions.Store
	engine  *gin.Engine
	metrics *metrics

	keys        keyring
	hosts       []string // allowed in Host headers beside loopback
	anyAddress  bool     // it listens on all addresses, each of which may be in a Host header
	anyOrigin   bool
	crossOrigin *http.CrossOriginProtection

	ready    atomic.Bool
	draining atomic.Bool
	running  atomic.Int64 // requests that are being answered
	sockets  sockets
}

// New returns a server of a store's models.
func New(store *sessions.Store, opts Options) (*Server, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	opts.setDefaults()
	s := &Server{
		opts: opts, store: store, metrics: newMetrics(store, opts.Now), sockets: sockets{stopping: make(chan struct{})}, keys: newKeyring(opts.APIKeys),
		anyOrigin: slices.Contains(opts.CORSOrigins, "*"), crossOrigin: http.NewCrossOriginProtection(),
	}
	for _, name := range opts.AllowedHosts {
		s.hosts = append(s.hosts, strings.ToLower(name))
	}
	host, _, _ := net.SplitHostPort(opts.Addr) // Validate has split it
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		s.anyAddress = true
	} else {
		s.hosts = append(s.hosts, strings.ToLower(host))
	}
	for _, origin := range opts.CORSOrigins {
		if origin != "*" {
			if err := s.crossOrigin.AddTrustedOrigin(origin); err != nil {
				return nil, fmt.Errorf("server: option CORSOrigins: %w", err)
			}
		}
	}
	gin.SetMode(gin.ReleaseMode) // the other modes print to standard output
	s.engine = gin.New()
	s.engine.RedirectTrailingSlash = false // a redirect loses the body of a POST
	s.engine.HandleMethodNotAllowed = true
	if err := s.engine.SetTrustedProxies(nil); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	for _, r := range routes(&s.opts) {
		if r.scope == scopeNone {
			return nil, fmt.Errorf("server: route %s %s has no scope", r.method, r.path)
		}
		s.engine.Handle(r.method, r.path, s.handler(&r))
	}
	s.engine.NoRoute(s.handler(&route{scope: scopeInference, path: "unknown", deadline: quickly, handle: (*Server).unknownRoute}))
	s.engine.NoMethod(s.handler(&route{scope: scopeInference, path: "unknown", deadline: quickly, handle: (*Server).wrongMethod}))
	return s, nil
}

// Handler answers requests without listening, for callers that bring their own http.Server.
func (s *Server) Handler() http.Handler { return s.engine }

// Ready says that everything the server was started for is loaded. Until then /health answers 503 with the progress.
func (s *Server) Ready() { s.ready.Store(true) }

// Running returns how many requests are being answered.
func (s *Server) Running() int { return int(s.running.Load()) }

// Listen opens the configured address.
func (s *Server) Listen() (net.Listener, error) {
	listener, err := net.Listen("tcp", s.opts.Addr)
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	return listener, nil
}

// finalEvents is how long requests have to write their last event once the time to drain is over.
const finalEvents = 2 * time.Second

// Serve answers connections of the listener, which it closes, until ctx ends. Then it accepts no more, lets running
// requests finish for the drain timeout, ends the rest with an error that their clients can read, and returns nil.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	if host, _, err := net.SplitHostPort(listener.Addr().String()); err == nil {
		if err := checkBind(host, s.opts.APIKeys, s.opts.Insecure); err != nil {
			return errors.Join(err, listener.Close())
		}
	}
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(errDraining)
	server := &http.Server{
		Handler:           s.engine,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    s.opts.MaxHeaderBytes,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(s.opts.Logger.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("server: %w", err)
	case <-ctx.Done():
	}
	s.draining.Store(true)
	s.sockets.stop()
	if err := s.shutDown(server, s.opts.DrainTimeout); err != nil {
		s.opts.Logger.Warn("requests did not finish in time and are ended", "after", s.opts.DrainTimeout)
		cancel(errDraining)
		if err := s.shutDown(server, finalEvents); err != nil {
			server.Close()
		}
	}
	<-served // http.ErrServerClosed
	return nil
}

func (s *Server) shutDown(server *http.Server, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return errors.Join(server.Shutdown(ctx), s.sockets.wait(ctx))
}

// exchange is one request and its answer in progress. It belongs to the request's goroutine.
type exchange struct {
	s       *Server
	c       *gin.Context
	ctx     context.Context // ends with the client, the route's deadline, or the server
	route   *route
	id      string
	tenant  string // whose request it is, by its key
	started time.Time

	sequence int // number of the next event in a stream of a response

	// What the log line and the metrics say in the end.
	model  string
	reason string // a choice's finish reason, or the error's code
	count  *tally
	err    error
	failed int // status of the error, also when it came too late to be the answer's

	counted bool // among the requests of the metrics
}

// handler is the way of every request, in order.
func (s *Server) handler(r *route) gin.HandlerFunc {
	return func(c *gin.Context) {
		ctx, cancel := context.WithTimeoutCause(c.Request.Context(), r.deadline, errDeadline)
		defer cancel()
		s.running.Add(1)
		defer s.running.Add(-1)
		x := &exchange{s: s, c: c, ctx: ctx, route: r, id: s.opts.NewID("req_"), started: s.opts.Now()}
		defer x.finish()
		defer x.recover()
		h := x.header()
		h.Set("X-Request-Id", x.id)
		h.Set("Openai-Version", "2020-10-01")
		h.Set("X-Content-Type-Options", "nosniff")
		if id := c.Request.Header.Get("X-Client-Request-Id"); id != "" && len(id) <= 512 {
			h.Set("X-Client-Request-Id", id)
		}
		if err := s.checkHost(c.Request); err != nil {
			x.fail(err)
			return
		}
		if s.cors(c.Request, h) {
			c.Writer.WriteHeader(http.StatusNoContent)
			c.Writer.WriteHeaderNow()
			return
		}
		err := s.checkOrigin(c.Request)
		if err == nil {
			x.tenant, err = s.authorize(c.Request, r.scope)
		}
		if err == nil {
			err = r.handle(s, x)
		}
		if err != nil {
			x.fail(err)
		}
	}
}

func (x *exchange) header() http.Header { return x.c.Writer.Header() }

// stamp notes the time until the answer begins, which OpenAI's clients log.
func (x *exchange) stamp() {
	x.header().Set("Openai-Processing-Ms", strconv.FormatInt(x.s.opts.Now().Sub(x.started).Milliseconds(), 10))
}

// answer writes a whole answer with status 200.
func (x *exchange) answer(body any) error { return x.write(http.StatusOK, body) }

func (x *exchange) write(status int, body any) error {
	var buf bytes.Buffer
	if err := encodeJSON(&buf, body); err != nil {
		return err
	}
	x.header().Set("Content-Type", "application/json")
	x.header().Set("Content-Length", strconv.Itoa(buf.Len()))
	x.stamp()
	x.ended(status)
	_ = http.NewResponseController(x.c.Writer).SetWriteDeadline(time.Now().Add(x.s.opts.WriteTimeout))
	x.c.Writer.WriteHeader(status)
	_, err := x.c.Writer.Write(buf.Bytes())
	if err != nil {
		return fmt.Errorf("server: write to the client: %w: %w", context.Canceled, err)
	}
	return nil
}

// fail tells the client about an error: as a status while nothing is written, as the last event of a stream
// afterwards.
func (x *exchange) fail(err error) {
	wire := toWire(err, x.id)
	x.err, x.reason, x.failed = err, wire.Code, wire.Status
	body := wire.body(x.route.wire)
	switch contentType := x.header().Get("Content-Type"); {
	case wire.Status == statusClientGone:
		if !x.c.Writer.Written() {
			x.c.Writer.WriteHeader(wire.Status)
		}
	case !x.c.Writer.Written():
		wire.setHeaders(x.header())
		_ = x.write(wire.Status, body) // the client may be gone; the log has the error
	case strings.HasPrefix(contentType, "text/event-stream"):
		out := x.s.newStream(x, formatSSE)
		if x.route.wire == wireResponses {
			_ = out.failed(wire, x.sequence)
		} else {
			_ = out.last(body)
		}
	case contentType == "application/x-ndjson":
		_ = x.s.newStream(x, formatNDJSON).last(body)
	}
}

// finished notes how a choice ended.
func (x *exchange) finished(f *sessions.Finish) { x.reason = finishReason(f) }

// recover turns a panic of a handler into an error; the process and all other requests go on.
func (x *exchange) recover() {
	if r := recover(); r != nil {
		x.fail(x.panicked(r))
	}
}

// panicked logs a panic and returns it as an error.
func (x *exchange) panicked(r any) error {
	x.s.opts.Logger.Error("request panicked", "request", x.id, "route", x.route.path, "panic", r, "stack", string(debug.Stack()))
	return fmt.Errorf("server: panic: %v", r)
}

// ended counts the request, once: before its client has all of the answer, and may ask for the counts.
func (x *exchange) ended(status int) {
	if !x.counted {
		x.counted = true
		x.s.metrics.ended(x, status, x.s.opts.Now().Sub(x.started))
	}
}

// finish writes the request's log line, and counts the request unless its answer was counted as it was written.
func (x *exchange) finish() { x.conclude(x.c.Writer.Status()) }

// conclude is finish for a request that was answered with this status.
func (x *exchange) conclude(status int) {
	took := x.s.opts.Now().Sub(x.started)
	x.ended(status)
	level := slog.LevelInfo
	switch {
	case x.failed == http.StatusInternalServerError: // the only ones that nobody provided for
		level = slog.LevelError
	case max(status, x.failed) > http.StatusInternalServerError && x.route.scope != scopePublic:
		level = slog.LevelWarn
	case x.route.scope != scopeInference: // asked every few seconds by machines
		level = slog.LevelDebug
	}
	attrs := []slog.Attr{
		slog.String("id", x.id), slog.String("method", x.c.Request.Method), slog.String("route", x.route.path),
		slog.Int("status", status), slog.Duration("took", took),
	}
	if x.model != "" {
		attrs = append(attrs, slog.String("model", x.model))
	}
	if x.reason != "" {
		attrs = append(attrs, slog.String("reason", x.reason))
	}
	if x.count != nil {
		attrs = append(attrs, slog.Int("prompt_tokens", x.count.prompt), slog.Int("cached_tokens", x.count.cachedTokens()), slog.Int("generated_tokens", x.count.generated))
	}
	if x.err != nil {
		attrs = append(attrs, slog.String("error", x.err.Error()))
	}
	x.s.opts.Logger.LogAttrs(context.WithoutCancel(x.ctx), level, "request", attrs...)
}

func (s *Server) unknownRoute(x *exchange) error {
	x.route = &route{scope: x.route.scope, path: x.route.path, wire: wireOf(x.c.Request.URL.Path)}
	message := "there is nothing at "
	if isForeign(x.c.Request.URL.Path) {
		message = "this server does not have this endpoint yet: "
	}
	return &wireError{
		Status: http.StatusNotFound, Type: typeInvalidRequest, Code: "not_found",
		Message: message + x.c.Request.Method + " " + shorten(x.c.Request.URL.Path),
	}
}

// foreignEndpoints are the endpoints of OpenAI's API, and of Ollama's, that this server does not have. Their clients are
// told so, in other words than after a slip of the pen.
var foreignEndpoints = []string{
	"/v1/embeddings", "/v1/moderations", "/v1/files", "/v1/uploads", "/v1/batches",
	"/v1/images", "/v1/audio", "/v1/videos", "/v1/realtime", "/v1/fine_tuning", "/v1/vector_stores", "/v1/assistants",
	"/v1/threads", "/v1/containers", "/v1/evals",
	"/api/embed", "/api/embeddings", "/api/create", "/api/copy", "/api/delete", "/api/pull", "/api/push", "/api/blobs",
}

func isForeign(path string) bool {
	return slices.ContainsFunc(foreignEndpoints, func(endpoint string) bool {
		rest, ok := strings.CutPrefix(path, endpoint)
		return ok && (rest == "" || rest[0] == '/')
	})
}

func (s *Server) wrongMethod(x *exchange) error {
	x.route = &route{scope: x.route.scope, path: x.route.path, wire: wireOf(x.c.Request.URL.Path)}
	return &wireError{
		Status: http.StatusMethodNotAllowed, Type: typeInvalidRequest, Code: "method_not_allowed",
		Message: shorten(x.c.Request.Method) + " is not allowed here; use " + x.header().Get("Allow"),
	}
}

// wireOf guesses whose client asks for a path that is in no table.
func wireOf(path string) wireFormat {
	if strings.HasPrefix(path, "/api/") {
		return wireOllama
	}
	return wireOpenAI
}

// formatBytes writes a limit for people.
func formatBytes(n int64) string {
	switch {
	case n >= 1<<30:
		return strconv.FormatInt(n>>30, 10) + " GiB"
	case n >= 1<<20:
		return strconv.FormatInt(n>>20, 10) + " MiB"
	case n >= 1<<10:
		return strconv.FormatInt(n>>10, 10) + " KiB"
	}
	return strconv.FormatInt(n, 10) + " bytes"
}
