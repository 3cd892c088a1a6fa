package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"hearth/engine"
	"hearth/engine/embedded"
)

// raw sends the bytes of one request and returns the answer's status and body, 0 if there was none.
func (s *testServer) raw(request string) (int, string) {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		s.t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// TestAuthOnTheWire sends odd requests byte for byte: none of them may reach a model without a key.
func TestAuthOnTheWire(t *testing.T) {
	s := serve(t, sharedServer(t).catalog, Options{APIKeys: []APIKey{{Key: "first-key"}, {Tenant: "acme", Key: "second-key"}}})
	const host = "Host: localhost\r\nConnection: close\r\n"
	for _, c := range []struct {
		name, request string
		status        int
	}{
		{"no key", "GET /v1/models HTTP/1.1\r\n" + host + "\r\n", 401},
		{"double slash", "GET //v1/models HTTP/1.1\r\n" + host + "\r\n", 401},
		{"encoded dot", "GET /%2e/v1/models HTTP/1.1\r\n" + host + "\r\n", 401},
		{"encoded letter", "GET /%761/models HTTP/1.1\r\n" + host + "\r\n", 401},
		{"parent folder", "GET /health/../v1/models HTTP/1.1\r\n" + host + "\r\n", 401},
		{"encoded parent folder", "GET /health/%2e%2e/v1/models HTTP/1.1\r\n" + host + "\r\n", 401},
		{"semicolon", "GET /v1/models;/health HTTP/1.1\r\n" + host + "\r\n", 401},
		{"fragment", "GET /v1/models#/health HTTP/1.1\r\n" + host + "\r\n", 401},
		{"query", "GET /v1/models?path=/health HTTP/1.1\r\n" + host + "\r\n", 401},
		{"absolute form", "GET http://localhost/v1/models HTTP/1.1\r\n" + host + "\r\n", 401},
		{"absolute form of another host", "GET http://evil.example/v1/models HTTP/1.1\r\n" + host + "Authorization: Bearer first-key\r\n\r\n", 403},
		{"method override", "GET /v1/models HTTP/1.1\r\n" + host + "X-HTTP-Method-Override: OPTIONS\r\nX-Original-URL: /health\r\n\r\n", 401},
		{"HEAD", "HEAD /v1/models HTTP/1.1\r\n" + host + "\r\n", 401},
		{"HTTP/1.0", "GET /v1/models HTTP/1.0\r\n" + host + "\r\n", 401},
		{"wrong key", "GET /v1/models HTTP/1.1\r\n" + host + "Authorization: Bearer other\r\n\r\n", 401},
		{"part of a key", "GET /v1/models HTTP/1.1\r\n" + host + "Authorization: Bearer first\r\n\r\n", 401},
		{"empty key", "GET /v1/models HTTP/1.1\r\n" + host + "Authorization: Bearer \r\n\r\n", 401},
		{"other scheme", "GET /v1/models HTTP/1.1\r\n" + host + "Authorization: Basic first-key\r\n\r\n", 401},
		{"two keys", "GET /v1/models HTTP/1.1\r\n" + host + "Authorization: Bearer first-key\r\nAuthorization: Bearer x\r\n\r\n", 401},
		{"key and other key", "GET /v1/models HTTP/1.1\r\n" + host + "Authorization: Bearer x\r\nX-Api-Key: first-key\r\n\r\n", 401},
		{"key", "GET /v1/models HTTP/1.1\r\n" + host + "Authorization: Bearer first-key\r\n\r\n", 200},
		{"second key, other case", "GET /v1/models HTTP/1.1\r\n" + host + "authorization: bearer second-key\r\n\r\n", 200},
		{"key in its own header", "GET /v1/models HTTP/1.1\r\n" + host + "X-Api-Key: second-key\r\n\r\n", 200},
		{"encoded path with key", "GET /%761/models/" + embedded.Name + " HTTP/1.1\r\n" + host + "Authorization: Bearer first-key\r\n\r\n", 200},
		{"metrics", "GET /metrics HTTP/1.1\r\n" + host + "\r\n", 401},
		{"generation", "POST /api/generate HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\n{}", 401},
		{"health", "GET /health HTTP/1.1\r\n" + host + "\r\n", 200},
		{"two hosts", "GET /health HTTP/1.1\r\nHost: localhost\r\n" + host + "\r\n", 400},
		{"no host", "GET /health HTTP/1.1\r\nConnection: close\r\n\r\n", 400},
		{"no host, HTTP/1.0", "GET /health HTTP/1.0\r\n\r\n", 403},
		{"large headers", "GET /health HTTP/1.1\r\n" + host + "X: " + strings.Repeat("a", 128<<10) + "\r\n\r\n", 431},
		{"two lengths", "POST /v1/completions HTTP/1.1\r\n" + host + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			own := *s
			own.t = t
			if status, body := own.raw(c.request); status != c.status {
				t.Errorf("%.200q = %d %s, want %d", c.request, status, body, c.status)
			}
		})
	}
}

func TestUnauthorizedShape(t *testing.T) {
	s := serve(t, sharedServer(t).catalog, Options{APIKeys: []APIKey{{Key: "k"}}})
	a := s.get("/v1/models")
	validate(t, "ErrorResponse", a.body)
	if a.header.Get("WWW-Authenticate") == "" || *decodeAnswer[errorBody](t, a).Error.Code != "invalid_api_key" {
		t.Errorf("%v %s", a.header, a.body)
	}
	if a := s.get("/api/tags"); a.status != 401 || decodeAnswer[ollamaError](t, a).Error == "" {
		t.Errorf("/api/tags = %d %s", a.status, a.body)
	}
}

// TestTenants checks that a tenant finds its own prefixes cached, by whichever of its keys, and never another one's.
func TestTenants(t *testing.T) {
	s := startServer(t, Options{APIKeys: []APIKey{{Key: "a1"}, {Key: "a2"}, {Tenant: "b", Key: "b1"}}}, engine.Options{})
	prompt := strconv.Quote(strings.Repeat("Once upon a time there was a dog. ", 8))
	cached := func(key string) bool {
		req, err := http.NewRequest("POST", s.url+"/v1/completions", strings.NewReader(completionBody(prompt, `"max_tokens":1`)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+key)
		a := s.send(req)
		if a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		return decodeAnswer[struct{ Usage usage }](t, a).Usage.PromptDetails.CachedTokens > 0
	}
	for i, c := range []struct {
		key  string
		want bool
	}{{"a1", false}, {"a1", true}, {"b1", false}, {"a2", true}, {"b1", true}} {
		if got := cached(c.key); got != c.want {
			t.Errorf("request %d, with key %s: cached %v, want %v", i, c.key, got, c.want)
		}
	}
}

// TestHost checks the Host header against names that a page could make resolve to this machine.
func TestHost(t *testing.T) {
	s := serve(t, sharedServer(t).catalog, Options{AllowedHosts: []string{"Models.Example"}})
	for _, c := range []struct {
		host string
		ok   bool
	}{
		{"localhost", true}, {"LOCALHOST:8080", true}, {"localhost.", true}, {"app.localhost", true},
		{"127.0.0.1", true}, {"127.0.0.1:1", true}, {"127.8.9.1", true}, {"[::1]", true}, {"[::1]:8080", true},
		{"[::ffff:127.0.0.1]", true}, {"models.example", true}, {"models.example:443", true}, {"MODELS.EXAMPLE.", true},
		{"localhost.evil.example", false}, {"evil.example", false}, {"evil.example.", false}, {"evil.example:8080", false},
		{"localhostx", false}, {"xlocalhost", false}, {"127.0.0.1.evil.example", false}, {"127.0.0.1:80:80", false},
		{"[2001:db8::1]", false}, {"[2001:db8::1]:8080", false}, {"10.0.0.1", false}, {"0.0.0.0", false},
		{"2130706433", false}, {"0x7f.1", false}, {"127.1", false}, {"localhost:port", false}, {"localhost:", false},
		{"a.models.example", false}, {"localhost:123456", false}, {"[localhost", false}, {"user@localhost", false},
	} {
		status, _ := s.raw("GET /health HTTP/1.1\r\nHost: " + c.host + "\r\nConnection: close\r\n\r\n")
		if (status == 200) != c.ok || status != 200 && status != 403 && status != 400 {
			t.Errorf("Host %q = %d, want allowed %v", c.host, status, c.ok)
		}
	}
}

func TestCORS(t *testing.T) {
	catalog := sharedServer(t).catalog
	ask := func(s *testServer, method, origin string) answer {
		req, err := http.NewRequest(method, s.url+"/v1/completions", strings.NewReader(completionBody(`"x"`, `"max_tokens":1`)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Origin", origin)
		if method == "OPTIONS" {
			req.Header.Set("Access-Control-Request-Method", "POST")
		}
		return s.send(req)
	}
	const site, other = "https://app.example", "https://evil.example"
	closed, open, wide := serve(t, catalog, Options{}), serve(t, catalog, Options{CORSOrigins: []string{site}}), serve(t, catalog, Options{CORSOrigins: []string{"*"}})
	for _, c := range []struct {
		name   string
		s      *testServer
		method string
		origin string
		status int
		allow  string
	}{
		{"off", closed, "POST", site, 403, ""},
		{"off, question", closed, "OPTIONS", site, 405, ""},
		{"own pages", closed, "POST", closed.url, 200, ""},
		{"allowed", open, "POST", site, 200, site},
		{"allowed, question", open, "OPTIONS", site, 204, site},
		{"another site", open, "POST", other, 403, ""},
		{"another site, question", open, "OPTIONS", other, 405, ""},
		{"all", wide, "POST", other, 200, "*"},
	} {
		a := ask(c.s, c.method, c.origin)
		if got := a.header.Get("Access-Control-Allow-Origin"); a.status != c.status || got != c.allow {
			t.Errorf("%s: %d, allowed origin %q; want %d, %q", c.name, a.status, got, c.status, c.allow)
		}
	}
	headers := ask(open, "OPTIONS", site).header.Get("Access-Control-Allow-Headers")
	for _, name := range []string{"Authorization", "X-Stainless-Retry-Count", "OpenAI-Beta", "Idempotency-Key"} {
		if !strings.Contains(headers, name) {
			t.Errorf("pages may not send %s", name)
		}
	}
}

func TestOptionsValidate(t *testing.T) {
	for _, c := range []struct {
		name string
		opts Options
		want string // in the error; empty: none
	}{
		{"zero", Options{}, ""},
		{"loopback", Options{Addr: "[::1]:0"}, ""},
		{"all addresses", Options{Addr: ":8080"}, "no API key"},
		{"all addresses with key", Options{Addr: ":8080", APIKeys: []APIKey{{Key: "k"}}}, ""},
		{"all addresses, insecure", Options{Addr: "0.0.0.0:8080", Insecure: true}, ""},
		{"IPv6", Options{Addr: "[::]:8080"}, "no API key"},
		{"address", Options{Addr: "192.168.1.2:80"}, "no API key"},
		{"name", Options{Addr: "localhost.evil.example:80"}, "no API key"},
		{"no port", Options{Addr: "localhost"}, "Addr"},
		{"bad port", Options{Addr: "localhost:http"}, "Addr"},
		{"empty key", Options{APIKeys: []APIKey{{}}}, "APIKeys"},
		{"tenant with a space", Options{APIKeys: []APIKey{{Tenant: "a b", Key: "k"}}}, "tenant"},
		{"key of two tenants", Options{APIKeys: []APIKey{{Key: "k"}, {Tenant: "a", Key: "k"}}}, "two tenants"},
		{"key named twice", Options{APIKeys: []APIKey{{Key: "k"}, {Tenant: "default", Key: "k"}}}, ""},
		{"host with port", Options{AllowedHosts: []string{"a:80"}}, "AllowedHosts"},
		{"origin with path", Options{CORSOrigins: []string{"https://a.example/"}}, "CORSOrigins"},
		{"negative", Options{MaxBodyBytes: -1}, "MaxBodyBytes"},
	} {
		err := c.opts.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// TestServeRefusesOpenListener checks the address that a listener really has, not only the one of the options.
func TestServeRefusesOpenListener(t *testing.T) {
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(sharedServer(t).store, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(context.Background(), listener); err == nil || !strings.Contains(err.Error(), "no API key") {
		t.Errorf("Serve on %s: %v, want a refusal", listener.Addr(), err)
	}
	if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", listener.Addr().(*net.TCPAddr).Port)); err == nil {
		conn.Close()
		t.Error("the listener is still open")
	}
}
