package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hearth/cmd/sharedtest"
	"hearth/engine"
	"hearth/engine/embedded"
	"hearth/hardware"
	"hearth/hardware/cpu"
	"hearth/sessions"
	"hearth/sessions/database"
)

// testServer is a server of the embedded model on a loopback port.
type testServer struct {
	*Server
	t          testing.TB
	url        string
	client     *http.Client
	catalog    *engine.Catalog
	engineOpts engine.Options // that the model was loaded with
	stop       func()         // ends the server, as an interruption does
}

// startServer loads the embedded model with the plain Go kernels, whose results are the same on every machine, and
// serves it with a clock that stands still, ids that count and a seed that is always the same.
func startServer(t testing.TB, opts Options, engineOpts engine.Options) *testServer {
	t.Helper()
	device, err := cpu.Open(cpu.Options{Threads: 1, ISA: "go"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { device.Close() })
	catalog, engineOpts := loadEmbedded(t, device, engineOpts)
	s := serve(t, catalog, opts)
	s.engineOpts = engineOpts
	return s
}

// loadEmbedded loads the embedded model onto a device, and returns the options that it was loaded with. The catalog is
// closed at the end of the test.
func loadEmbedded(t testing.TB, device hardware.Device, opts engine.Options) (*engine.Catalog, engine.Options) {
	t.Helper()
	catalog := engine.NewCatalog()
	t.Cleanup(func() { catalog.Close() })
	opts.Device, opts.Logger = device, slog.New(slog.DiscardHandler)
	if opts.KVBytes == 0 {
		opts.KVBytes = 32 << 20
	}
	if _, err := catalog.Load(context.Background(), "", "", opts); err != nil {
		t.Fatal(err)
	}
	return catalog, opts
}

// serve answers for the models of a catalog on a loopback port until the end of the test.
func serve(t testing.TB, catalog *engine.Catalog, opts Options) *testServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, catalog, opts, listener)
}

// serveOn is serve on a listener, which it closes.
func serveOn(t testing.TB, catalog *engine.Catalog, opts Options, listener net.Listener) *testServer {
	t.Helper()
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	opts.Version = "test"
	opts.Now = func() time.Time { return time.Unix(1700000000, 0) }
	opts.Seed = func() uint64 { return 42 }
	var ids atomic.Int64
	opts.NewID = func(prefix string) string { return fmt.Sprintf("%s%d", prefix, ids.Add(1)) }
	db, err := database.Open(context.Background(), database.Memory, database.Options{Now: opts.Now, Logger: opts.Logger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	store := sessions.NewStore(catalog, db)
	t.Cleanup(func() { store.Close(context.Background()) })
	s, err := New(store, opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Ready()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return &testServer{Server: s, t: t, url: "http://" + listener.Addr().String(), client: http.DefaultClient, catalog: catalog, stop: cancel}
}

// shared is one server for all tests that do not care about what others asked it before.
var shared struct {
	once sync.Once
	s    *testServer
	t    sharedT
}

// sharedT outlives the test that starts the shared server; TestMain runs its cleanups.
type sharedT struct {
	testing.TB
	cleanups []func()
}

func (t *sharedT) Helper()           {}
func (t *sharedT) Cleanup(f func())  { t.cleanups = append(t.cleanups, f) }
func (t *sharedT) Fatal(args ...any) { panic(fmt.Sprint(args...)) }
func (t *sharedT) Errorf(format string, args ...any) {
	fmt.Printf("shared server: "+format+"\n", args...)
}

func sharedServer(t testing.TB) *testServer {
	shared.once.Do(func() { shared.s = startServer(&shared.t, Options{}, engine.Options{}) })
	s := *shared.s
	s.t = t
	return &s
}

func TestMain(m *testing.M) {
	code := m.Run()
	for i := len(shared.t.cleanups) - 1; i >= 0; i-- {
		shared.t.cleanups[i]()
	}
	os.Exit(code)
}

// answer is a whole response.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (s *testServer) do(method, path, body string) answer {
	s.t.Helper()
	req, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return s.send(req)
}

func (s *testServer) send(req *http.Request) answer {
	s.t.Helper()
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, data}
}

func (s *testServer) post(path, body string) answer { s.t.Helper(); return s.do("POST", path, body) }
func (s *testServer) get(path string) answer        { s.t.Helper(); return s.do("GET", path, "") }

// decodeAnswer reads a JSON body.
func decodeAnswer[T any](t testing.TB, a answer) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("status %d, body %q: %v", a.status, a.body, err)
	}
	return v
}

// events splits a body of server-sent events and checks the framing: data lines, comments, blank lines, and the end
// mark last.
func events(t testing.TB, body []byte) []string {
	t.Helper()
	var list []string
	for block := range strings.SplitSeq(strings.TrimSuffix(string(body), "\n\n"), "\n\n") {
		if strings.HasPrefix(block, ":") {
			continue
		}
		data, ok := strings.CutPrefix(block, "data: ")
		if !ok || strings.Contains(data, "\n") {
			t.Fatalf("bad event %q in\n%s", block, body)
		}
		list = append(list, data)
	}
	if !bytes.HasSuffix(body, []byte("\n\n")) {
		t.Errorf("the stream does not end in a blank line: %q", body)
	}
	return list
}

// validate holds a JSON text against a schema of OpenAI's API.
func validate(t testing.TB, schema string, data []byte) {
	t.Helper()
	sharedtest.Validate(t, schema, data)
}

// chatBody is a chat request for the embedded model with further fields.
func chatBody(fields string) string {
	return fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"Once upon a time"}]%s}`, embedded.Name, furtherFields(fields))
}

func completionBody(prompt, fields string) string {
	return fmt.Sprintf(`{"model":%q,"prompt":%s%s}`, embedded.Name, prompt, furtherFields(fields))
}

// furtherFields adds what makes answers repeatable, unless the fields say otherwise.
func furtherFields(fields string) string {
	if fields != "" {
		fields = "," + fields
	}
	if !strings.Contains(fields, `"temperature"`) {
		fields += `,"temperature":0`
	}
	return fields
}

// TestRoutes checks that every route is complete, and that its scope is what it should be.
func TestRoutes(t *testing.T) {
	public := map[string]bool{"GET /": true, "HEAD /": true, "GET /health": true, "GET /version": true, "GET /api/version": true}
	var opts Options
	opts.setDefaults()
	for _, r := range routes(&opts) {
		name := r.method + " " + r.path
		if r.scope == scopeNone {
			t.Errorf("%s has no scope", name)
		}
		if (r.scope == scopePublic) != public[name] {
			t.Errorf("%s: public = %v", name, r.scope == scopePublic)
		}
		if r.method == "POST" && r.bodyLimit == 0 {
			t.Errorf("%s has no body limit", name)
		}
		if r.deadline == 0 {
			t.Errorf("%s has no deadline", name)
		}
	}
}

func TestUnknownRouteAndMethod(t *testing.T) {
	s := sharedServer(t)
	for _, c := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/v1/nothing", 404, "not_found"},
		{"GET", "/v1/models/", 404, "model_not_found"},
		{"POST", "/v1/chat/completions/", 404, "not_found"},
		{"GET", "//v1/models", 404, "not_found"},
		{"PUT", "/v1/chat/completions", 405, "method_not_allowed"},
		{"DELETE", "/v1/models", 405, "method_not_allowed"},
		{"OPTIONS", "/v1/models", 405, "method_not_allowed"},
	} {
		a := s.do(c.method, c.path, "")
		if a.status != c.status {
			t.Errorf("%s %s = %d, want %d", c.method, c.path, a.status, c.status)
		}
		validate(t, "ErrorResponse", a.body)
		if e := decodeAnswer[errorBody](t, a); e.Error.Code == nil || *e.Error.Code != c.code {
			t.Errorf("%s %s: %s, want code %s", c.method, c.path, a.body, c.code)
		}
		if c.status == 405 && a.header.Get("Allow") == "" {
			t.Errorf("%s %s has no Allow header", c.method, c.path)
		}
	}
	if a := s.get("/api/nothing"); a.status != 404 || decodeAnswer[ollamaError](t, a).Error == "" {
		t.Errorf("GET /api/nothing = %d %s, want 404 in Ollama's shape", a.status, a.body)
	}
}

func TestHeaders(t *testing.T) {
	s := sharedServer(t)
	req, err := http.NewRequest("POST", s.url+"/v1/chat/completions", strings.NewReader(chatBody(`"max_tokens":1`)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Client-Request-Id", "mine-1")
	a := s.send(req)
	for name, want := range map[string]string{
		"X-Client-Request-Id": "mine-1", "Openai-Version": "2020-10-01", "Openai-Model": embedded.Name, "Openai-Processing-Ms": "0",
		"Content-Type": "application/json",
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if id := a.header.Get("X-Request-Id"); !strings.HasPrefix(id, "req_") {
		t.Errorf("X-Request-Id = %q", id)
	}
}

// TestPanic checks that a handler's panic is an answer with the request's id, before and after the first byte, and
// that the server goes on.
func TestPanic(t *testing.T) {
	s := sharedServer(t)
	early := &route{method: "GET", path: "/early", scope: scopePublic, deadline: time.Second, handle: func(*Server, *exchange) error { panic("secret") }}
	late := &route{method: "GET", path: "/late", scope: scopePublic, deadline: time.Second, handle: func(s *Server, x *exchange) error {
		if err := s.newStream(x, formatSSE).event(map[string]int{"n": 1}); err != nil {
			return err
		}
		panic("secret")
	}}
	own := serve(t, s.catalog, Options{})
	own.engine.Handle(early.method, early.path, own.handler(early))
	own.engine.Handle(late.method, late.path, own.handler(late))
	a := own.get("/early")
	validate(t, "ErrorResponse", a.body)
	if a.status != 500 || bytes.Contains(a.body, []byte("secret")) || !bytes.Contains(a.body, []byte(a.header.Get("X-Request-Id"))) {
		t.Errorf("panic: %d %s, want 500 with the id %s and nothing of the panic", a.status, a.body, a.header.Get("X-Request-Id"))
	}
	if a.header.Get("X-Should-Retry") != "false" {
		t.Errorf("X-Should-Retry = %q, want false", a.header.Get("X-Should-Retry"))
	}
	a = own.get("/late")
	if list := events(t, a.body); len(list) != 2 || !strings.Contains(list[1], `"internal_error"`) {
		t.Errorf("panic in a stream: %q, want the error as the last event", list)
	}
	if a := own.get("/health"); a.status != 200 {
		t.Errorf("after the panics: %d %s", a.status, a.body)
	}
}

func TestHealth(t *testing.T) {
	catalog := engine.NewCatalog()
	s, err := New(sessions.NewStore(catalog, nil), Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	get := func() (int, healthStatus, http.Header) {
		w := newRecorder()
		req, err := http.NewRequest("GET", "http://localhost/health", nil)
		if err != nil {
			t.Fatal(err)
		}
		s.Handler().ServeHTTP(w, req)
		var h healthStatus
		if err := json.Unmarshal(w.body.Bytes(), &h); err != nil {
			t.Fatal(err)
		}
		return w.status, h, w.header
	}
	if status, h, header := get(); status != 503 || h.Status != "loading" || header.Get("Retry-After") == "" {
		t.Errorf("before Ready: %d %+v, want 503 loading with Retry-After", status, h)
	}
	s.Ready()
	if status, h, _ := get(); status != 200 || h.Status != "ok" {
		t.Errorf("after Ready: %d %+v, want 200 ok", status, h)
	}
	s.draining.Store(true)
	if status, h, _ := get(); status != 503 || h.Status != "draining" {
		t.Errorf("draining: %d %+v, want 503 draining", status, h)
	}
}

// TestHealthWhileLoading looks at /health and at a request for the model from inside a load's progress report.
func TestHealthWhileLoading(t *testing.T) {
	device, err := cpu.Open(cpu.Options{Threads: 1, ISA: "go"})
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	catalog := engine.NewCatalog()
	defer catalog.Close()
	s, err := New(sessions.NewStore(catalog, nil), Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	request := func(method, path, body string) *recorder {
		w := newRecorder()
		req, err := http.NewRequest(method, "http://localhost"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		s.Handler().ServeHTTP(w, req)
		return w
	}
	reports := 0
	opts := engine.Options{Device: device, KVBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler)}
	opts.Progress = func(done, total int64) {
		if reports++; reports > 1 {
			return
		}
		w := request("GET", "/health", "")
		var h healthStatus
		if err := json.Unmarshal(w.body.Bytes(), &h); err != nil {
			t.Fatal(err)
		}
		if w.status != 503 || len(h.Models) != 1 || h.Models[0].ID != embedded.Name || h.Models[0].TotalBytes != total {
			t.Errorf("/health = %d %+v, want 503 and the progress", w.status, h)
		}
		w = request("POST", "/v1/chat/completions", chatBody(""))
		if w.status != 503 || w.header.Get("Retry-After") == "" || !strings.Contains(w.body.String(), `"model_loading"`) {
			t.Errorf("chat = %d %s, want 503 model_loading with Retry-After", w.status, &w.body)
		}
	}
	if _, err := catalog.Load(context.Background(), "", "", opts); err != nil {
		t.Fatal(err)
	}
	if reports == 0 {
		t.Error("the load reported no progress")
	}
}

// recorder is a response writer without a connection.
type recorder struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func newRecorder() *recorder { return &recorder{header: http.Header{}} }

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }
func (r *recorder) Flush()                      {}

// TestDrain checks that a stream in progress finishes after the server was told to stop, that no new connection is
// accepted then, and that a stream which takes too long ends in an error event.
func TestDrain(t *testing.T) {
	for _, c := range []struct {
		name    string
		drain   time.Duration
		request string
		last    string
	}{
		{"finishes", 100 * stepTime, `"stream":true,"max_tokens":100`, "[DONE]"},
		{"is ended", 100 * stepTime, `"stream":true,"max_tokens":400,"ignore_eos":true`, `"server_is_overloaded"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, Options{DrainTimeout: c.drain}, engine.Options{}, func(t *testing.T, s *testServer) {
				first, reader := s.begin(t.Context(), "/v1/chat/completions", chatBody(c.request))
				s.stop()
				synctest.Wait()
				if resp, err := s.client.Get(s.url + "/health"); err == nil {
					resp.Body.Close()
					t.Error("a connection was accepted after the server stopped")
				}
				list := events(t, []byte(first+readRest(t, reader)))
				if last := list[len(list)-1]; !strings.Contains(last, c.last) {
					t.Errorf("the last event is %s, want %s", last, c.last)
				}
			})
		})
	}
}

// TestAbort checks that a client that goes away frees its sequence, and that what was generated for it is counted.
func TestAbort(t *testing.T) {
	log := newRequestLog()
	inBubble(t, Options{Logger: slog.New(log)}, engine.Options{}, func(t *testing.T, s *testServer) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_, rest := s.begin(ctx, "/v1/chat/completions", chatBody(`"stream":true,"ignore_eos":true,"n":4,"max_tokens":400`))
		cancel()
		if _, err := io.ReadAll(rest); !errors.Is(err, context.Canceled) {
			t.Fatalf("reading on: %v", err)
		}
		endStep()
		stats := s.store.Stats()[embedded.Name]
		if stats.Running != 0 || stats.Waiting != 0 || stats.BlocksUsed != 0 || stats.Requests[2] != 4 {
			t.Errorf("after the step that ran then: %+v, want nothing in use and four sequences cancelled", stats)
		}
		lines := log.lines()
		if len(lines) != 1 {
			t.Fatalf("logged %v, want one line", lines)
		}
		generated, reason := attribute(lines[0], "generated_tokens"), attribute(lines[0], "reason")
		if want := stats.GeneratedTokens; want == 0 || generated.Int64() != int64(want) || reason.String() != "client_gone" {
			t.Errorf("the log says %v tokens and %v, the engine %d", generated, reason, want)
		}
	})
}

// TestManyClients checks that 32 clients at once get what each of them gets alone.
func TestManyClients(t *testing.T) {
	s := startServer(t, Options{}, engine.Options{})
	const clients = 32
	body := func(i int) string {
		return completionBody(fmt.Sprintf("%q", []string{"Once upon a time", "Lily and Tom", "The dog", "One day"}[i%4]), fmt.Sprintf(`"max_tokens":%d,"temperature":1,"seed":%d,"stream":true,"stream_options":{"include_usage":true}`, 8+i%5, i))
	}
	text := func(a answer) string {
		var all strings.Builder
		for _, e := range events(t, a.body) {
			var c completion
			if e == "[DONE]" {
				break
			}
			if err := json.Unmarshal([]byte(e), &c); err != nil {
				t.Error(err)
			}
			for _, choice := range c.Choices {
				all.WriteString(choice.Text)
			}
		}
		return all.String()
	}
	var want [clients]string
	for i := range want {
		want[i] = text(s.post("/v1/completions", body(i)))
	}
	var wait sync.WaitGroup
	for i := range want {
		wait.Go(func() {
			resp, err := http.Post(s.url+"/v1/completions", "application/json", strings.NewReader(body(i)))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			data, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Error(err)
				return
			}
			if got := text(answer{body: data}); got != want[i] || got == "" {
				t.Errorf("client %d of %d: %q, alone %q", i, clients, got, want[i])
			}
		})
	}
	wait.Wait()
}

func TestMetrics(t *testing.T) {
	s := startServer(t, Options{}, engine.Options{})
	if a := s.post("/v1/chat/completions", chatBody(`"max_tokens":3`)); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	s.post("/v1/chat/completions", chatBody(`"max_tokens":0`))
	a := s.get("/metrics")
	for _, want := range []string{
		`hearth_requests_total{model="stories260k",reason="length",route="/v1/chat/completions",status="200"} 1`,
		`hearth_requests_total{model="",reason="invalid_value",route="/v1/chat/completions",status="400"} 1`,
		`hearth_time_to_first_token_seconds_count{model="stories260k"} 1`,
		`hearth_inter_token_seconds_count{model="stories260k"} 2`,
		`hearth_queue_seconds_count{model="stories260k"} 1`,
		`hearth_prefill_seconds_count{model="stories260k"} 1`,
		`hearth_decode_seconds_count{model="stories260k"} 1`,
		`hearth_generated_tokens_total{model="stories260k"} 3`,
		`hearth_sequences_total{model="stories260k",reason="length"} 1`,
		`hearth_sequences_running{model="stories260k"} 0`,
		`hearth_sequences_waiting{model="stories260k"} 0`,
		`hearth_kv_blocks_used{model="stories260k"} 0`,
		`hearth_prefix_hit_tokens_total{model="stories260k"} 0`,
		`hearth_draft_tokens_total{model="stories260k",source="ngram"} 0`,
	} {
		if !strings.Contains(string(a.body), want+"\n") {
			t.Errorf("/metrics has no line %s", want)
		}
	}
	if !strings.Contains(string(a.body), "\ngo_goroutines ") {
		t.Error("/metrics says nothing of the process")
	}
}

// watcher is a recorder that looks at what is written before the client can.
type watcher struct {
	*recorder
	see func(written string)
}

// Write is part of http.ResponseWriter.
func (w *watcher) Write(b []byte) (int, error) {
	w.see(string(b))
	return w.recorder.Write(b)
}

// watch sends a request and has see look at each part of the answer before it is written.
func (s *testServer) watch(path, body string, see func(written string)) {
	s.t.Helper()
	r, err := http.NewRequest("POST", "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	s.Handler().ServeHTTP(&watcher{newRecorder(), see}, r)
}

// TestCountedWhenAnswered wants a request to be among the metrics before its client has all of the answer.
func TestCountedWhenAnswered(t *testing.T) {
	s := sharedServer(t)
	for _, c := range []struct{ path, body, last, reason, status string }{
		{"/v1/chat/completions", chatBody(`"max_tokens":1`), `"chat.completion"`, "length", "200"},
		{"/v1/chat/completions", chatBody(`"max_tokens":1,"stream":true`), "[DONE]", "length", "200"},
		{"/v1/completions", completionBody(`"Once"`, `"max_tokens":1,"stream":true`), "[DONE]", "length", "200"},
		{"/v1/responses", responseBody(`"input":"Once","max_output_tokens":16`), `"incomplete"`, "incomplete", "200"},
		{"/v1/responses", responseBody(`"input":"Once","max_output_tokens":16,"stream":true`), "response.incomplete", "incomplete", "200"},
		{"/v1/responses", responseBody(`"input":7`), "invalid_type", "invalid_type", "400"},
		{"/api/generate", `{"model":"stories260k","prompt":"Once","options":{"num_predict":1}}`, `"done":true`, "length", "200"},
		{"/api/generate", `{"model":"stories260k"}`, `"done":true`, "load", "200"},
	} {
		line := fmt.Sprintf(`hearth_requests_total{model=%q,reason=%q,route=%q,status=%q} `, embedded.Name, c.reason, c.path, c.status)
		count := func() (n int) {
			if _, rest, ok := strings.Cut(string(record(s.Server, "GET", "/metrics", "").body), line); ok {
				fmt.Sscan(rest, &n)
			}
			return n
		}
		before, seen := count(), false
		s.watch(c.path, c.body, func(written string) {
			if !strings.Contains(written, c.last) {
				return
			}
			seen = true
			if n := count() - before; n != 1 {
				t.Errorf("%s %s: %d requests are counted when the client gets %s", c.path, c.body, n, written)
			}
		})
		if n := count() - before; n != 1 || !seen {
			t.Errorf("%s %s: %d requests are counted in the end, an answer is %t", c.path, c.body, n, seen)
		}
	}
}

// TestStopStringIsNoCancellation checks that a sequence which a stop string ends counts as stopped.
func TestStopStringIsNoCancellation(t *testing.T) {
	inBubble(t, Options{}, engine.Options{}, func(t *testing.T, s *testServer) {
		if a := s.post("/v1/completions", completionBody(`"Once upon a time"`, `"max_tokens":400,"ignore_eos":true,"stop":"girl"`)); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		a := s.get("/metrics")
		for _, want := range []string{
			`hearth_sequences_total{model="stories260k",reason="stop"} 1`,
			`hearth_sequences_total{model="stories260k",reason="cancelled"} 0`,
		} {
			if !strings.Contains(string(a.body), want+"\n") {
				t.Errorf("/metrics has no line %s", want)
			}
		}
	})
}
