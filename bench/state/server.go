package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// server is a running process of the binary.
type server struct {
	model   model
	url     string
	command *exec.Cmd
	ready   time.Duration // from the start of the process to its readiness
	log     string        // file of its standard error
	exited  chan struct{} // closed when the process is gone
	client  *http.Client

	mu     sync.Mutex // guards the field below
	status error      // of the process that is gone
}

// patience is how long a server may take for anything; others may keep the machine busy.
const patience = 5 * time.Minute

var bannerAddress = regexp.MustCompile(`at (http://[^ ]+)`)

// noStore is the flag of a server that keeps nothing. Its data folder then names its log alone.
const noStore = "--no-store"

// start runs the binary on a data folder and waits until it is ready.
func (r *run) start(ctx context.Context, m model, data string, flags ...string) (*server, error) {
	return r.startIn(ctx, nil, m, data, flags...)
}

// startNew is start on a new folder, whose name says what for.
func (r *run) startNew(ctx context.Context, m model, name string, flags ...string) (*server, error) {
	data, err := r.folder(name)
	if err != nil {
		return nil, err
	}
	return r.start(ctx, m, data, flags...)
}

// startIn is start behind a command that prepares the process's surroundings.
func (r *run) startIn(ctx context.Context, wrapper []string, m model, data string, flags ...string) (*server, error) {
	args := append(wrapper, r.opts.hearth, "serve")
	if m.path != "" {
		args = append(args, m.name+"="+m.path)
	}
	args = append(args, "--addr", "127.0.0.1:0", "--log-format", "json")
	if !slices.Contains(flags, noStore) {
		args = append(args, "--data-dir", data)
	}
	if m.length > 0 {
		args = append(args, "--ctx", strconv.Itoa(m.length))
	}
	args = append(args, flags...)
	s := &server{
		model: m, exited: make(chan struct{}), log: fmt.Sprintf("%s.%d.log", data, len(r.servers)+1),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}
	log, err := os.Create(s.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.command = exec.Command(args[0], args[1:]...)
	s.command.Stderr = log
	out, err := s.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := s.command.Start(); err != nil {
		return nil, err
	}
	r.servers = append(r.servers, s)
	banner := make(chan string, 1)
	go s.watch(out, banner)
	select {
	case s.url = <-banner:
		s.ready = time.Since(begun)
		return s, nil
	case <-s.exited:
		return nil, fmt.Errorf("the server ended while it started: %w\n%s", s.gone(), s.tail())
	case <-time.After(patience):
		s.kill()
		return nil, fmt.Errorf("the server was not ready after %v\n%s", patience, s.tail())
	case <-ctx.Done():
		s.kill()
		return nil, ctx.Err()
	}
}

// watch reads the address that the server prints when it is ready, and then waits for its end.
func (s *server) watch(out io.Reader, banner chan<- string) {
	scan := bufio.NewScanner(out)
	for found := false; scan.Scan(); {
		if match := bannerAddress.FindStringSubmatch(scan.Text()); match != nil && !found {
			found = true
			banner <- match[1]
		}
	}
	err := s.command.Wait()
	s.mu.Lock()
	s.status = err
	s.mu.Unlock()
	close(s.exited)
}

// gone returns how the process ended.
func (s *server) gone() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status == nil {
		return errors.New("exit status 0")
	}
	return s.status
}

// kill ends the process as a crash of the machine would, and waits until it is gone.
func (s *server) kill() {
	s.signal(syscall.SIGKILL)
	<-s.exited
	s.client.CloseIdleConnections()
}

// stop asks the process to end and waits for it; it must end well.
func (s *server) stop() error {
	s.signal(syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(patience):
		s.kill()
		return fmt.Errorf("the server did not stop within %v\n%s", patience, s.tail())
	}
	s.client.CloseIdleConnections()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status != nil {
		return fmt.Errorf("the server ended with %w\n%s", s.status, s.tail())
	}
	return nil
}

// signal is sent unless the process is gone.
func (s *server) signal(signal os.Signal) {
	select {
	case <-s.exited:
	default:
		_ = s.command.Process.Signal(signal) // it may be gone by now, which exited says
	}
}

// tail returns the end of the log.
func (s *server) tail() string {
	data, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	const most = 4000
	return string(data[max(len(data)-most, 0):])
}

// warnings returns the messages of the log's warnings and errors.
func (s *server) warnings() ([]string, error) {
	data, err := os.ReadFile(s.log)
	if err != nil {
		return nil, err
	}
	var list []string
	for line := range strings.SplitSeq(string(data), "\n") {
		if strings.Contains(line, `"level":"WARN"`) || strings.Contains(line, `"level":"ERROR"`) {
			list = append(list, line)
		}
	}
	return list, nil
}

// residentBytes is the memory of the process that is not backed by files, such as the weights are.
func (s *server) residentBytes() (int64, error) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(s.pid()), "status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("/proc has no RssAnon")
}

// pid is the process's own number. A wrapper replaces itself by the server, so it is that of the command.
func (s *server) pid() int { return s.command.Process.Pid }

// metrics reads all figures, those of several series of one name added up.
func (s *server) metrics(ctx context.Context) (map[string]float64, error) {
	body, err := s.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	sums := map[string]float64{}
	for line := range strings.SplitSeq(string(body), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		name, _, _ := strings.Cut(line[:strings.LastIndexByte(line, ' ')], "{")
		value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("metrics: %q: %w", line, err)
		}
		sums[name] += value
	}
	return sums, nil
}

// metric reads one figure, which must be there.
func (s *server) metric(ctx context.Context, name string) (float64, error) {
	sums, err := s.metrics(ctx)
	if err != nil {
		return 0, err
	}
	value, ok := sums[name]
	if !ok {
		return 0, fmt.Errorf("/metrics has no %s", name)
	}
	return value, nil
}
