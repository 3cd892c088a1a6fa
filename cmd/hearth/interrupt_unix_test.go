//go:build unix

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// processVariable makes the test's own binary the command, with the arguments that it holds, one a line.
const processVariable = "HEARTH_TEST_ARGUMENTS"

func TestMain(m *testing.M) {
	if arguments := os.Getenv(processVariable); arguments != "" {
		os.Args = append([]string{"hearth"}, strings.Split(arguments, "\n")...)
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// process is a running command.
type process struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	err bytes.Buffer
}

func startProcess(t *testing.T, arguments ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(os.Args[0])}
	p.Env = append(os.Environ(), processVariable+"="+strings.Join(arguments, "\n"), "XDG_DATA_HOME="+t.TempDir())
	p.Stderr = &p.err
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if p.in, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Process.Kill(); p.Wait() })
	return p
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// exits wants the process to exit by itself with a status.
func (p *process) exits(t *testing.T, status int) {
	t.Helper()
	p.Wait() // its error says the status
	if got := p.ProcessState.ExitCode(); got != status {
		t.Errorf("%v, want status %d; it wrote %q", p.ProcessState, status, p.err.String())
	}
}

// servingAt reads the banner of a server and returns its address.
func (p *process) servingAt(t *testing.T) string {
	t.Helper()
	for {
		line, err := p.out.ReadString('\n')
		if err != nil {
			t.Fatalf("no banner: %v, %q", err, p.err.String())
		}
		if _, rest, ok := strings.Cut(line, "http://"); ok {
			return strings.Fields(rest)[0]
		}
	}
}

var quickServer = []string{"serve", "--addr", "127.0.0.1:0", "--no-store", "--threads", "1", "--cache-ram", "8MiB", "--log-level", "error"}

// TestServeEndsBySignal wants a server that was asked to end to say that nothing went wrong.
func TestServeEndsBySignal(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		p := startProcess(t, quickServer...)
		p.servingAt(t)
		p.signal(t, s)
		p.exits(t, 0)
	}
}

// TestServeEndsAtOnce interrupts a server while a request keeps it from ending, and again when it has begun to end.
func TestServeEndsAtOnce(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		p := startProcess(t, append(quickServer, "--drain-timeout", "1h")...)
		addr := p.servingAt(t)
		request, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer request.Close()
		fmt.Fprintf(request, "POST /v1/completions HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n", addr)
		if line, err := bufio.NewReader(request).ReadString('\n'); err != nil || !strings.Contains(line, "100") {
			t.Fatalf("%q, %v", line, err)
		}
		p.signal(t, syscall.SIGINT)
		for listens := true; listens; { // until the first one has been noticed
			other, err := net.Dial("tcp", addr)
			if listens = err == nil; listens {
				other.Close()
			}
		}
		p.signal(t, s)
		p.exits(t, interruption{s}.status())
	}
}

// TestRunEndsBySignal interrupts a single answer, which has read a part of its prompt.
func TestRunEndsBySignal(t *testing.T) {
	for s, status := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		p := startProcess(t, "run")
		if _, err := p.in.Write(make([]byte, 4<<20)); err != nil { // more than waits in a pipe
			t.Fatal(err)
		}
		p.signal(t, s)
		p.exits(t, status)
	}
}
