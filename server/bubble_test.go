package server

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hearth/engine"
	"hearth/hardware/cpu"
	"hearth/hardware/devicetest"
)

// stepTime is how long a step takes in a bubble.
const stepTime = time.Millisecond

// inBubble runs a test in a bubble of synctest, with a server of the embedded model on a device that is paced by the bubble's
// clock.
func inBubble(t *testing.T, opts Options, engineOpts engine.Options, test func(t *testing.T, s *testServer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		device, err := cpu.Open(cpu.Options{Threads: 1, ISA: "go"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { device.Close() })
		catalog, engineOpts := loadEmbedded(t, devicetest.Paced{Device: device, Step: stepTime}, engineOpts)
		listener := &pipes{accepted: make(chan net.Conn), closed: make(chan struct{})}
		s := serveOn(t, catalog, opts, listener)
		transport := &http.Transport{DialContext: listener.dial}
		t.Cleanup(transport.CloseIdleConnections)
		s.engineOpts, s.client = engineOpts, &http.Client{Transport: transport}
		test(t, s)
	})
}

// pipes is a listener whose connections stay in the process, where a bubble sees who waits for what.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{} // closed by Close
	once     sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.accepted:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.accepted <- server:
		return client, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// begin asks for a stream and returns its first line, and a reader of the rest, which is closed at the end of the test.
func (s *testServer) begin(ctx context.Context, path, body string) (first string, rest *bufio.Reader) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(ctx, "POST", s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { resp.Body.Close() })
	rest = bufio.NewReader(resp.Body)
	if first, err = rest.ReadString('\n'); err != nil {
		s.t.Fatal(err)
	}
	return first, rest
}

// endStep returns when the step that runs has ended in a bubble, and all that follows from it.
func endStep() {
	time.Sleep(stepTime)
	synctest.Wait()
}

// readRest reads a stream to its end.
func readRest(t testing.TB, r io.Reader) string {
	t.Helper()
	rest, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("the stream was cut: %v", err)
	}
	return string(rest)
}
