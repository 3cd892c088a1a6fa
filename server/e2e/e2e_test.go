// Package e2e drives the real binary, serving the embedded model, with OpenAI's official clients. It is a module of its
// own, so that the clients are no dependencies of the product. HEARTH_BIN names the binary; `make e2e` sets it.
package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"hearth/cmd/sharedtest"
)

// model is the id of the embedded model.
const model = "stories260k"

// serverURL is where the binary under test listens.
var serverURL string

func TestMain(m *testing.M) { os.Exit(runMain(m)) }

func runMain(m *testing.M) int {
	bin := os.Getenv("HEARTH_BIN")
	if bin == "" {
		fmt.Fprintln(os.Stderr, "e2e: HEARTH_BIN does not name the binary to test; run `make e2e`")
		return 1
	}
	data, err := os.MkdirTemp("", "hearth-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(data)
	server := exec.Command(bin, "serve", "--addr", "127.0.0.1:0", "--data-dir", data)
	var log bytes.Buffer
	server.Stderr = &log
	out, err := server.StdoutPipe()
	if err == nil {
		err = server.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	banner := bufio.NewReader(out)
	if serverURL, err = readAddress(banner); err != nil {
		server.Process.Kill()
		server.Wait()
		fmt.Fprintf(os.Stderr, "e2e: the server is not ready: %v\n%s", err, log.String())
		return 1
	}
	go io.Copy(io.Discard, banner) // ends with the server
	code := m.Run()
	// The server must end by itself, with status 0, when it is asked to.
	server.Process.Signal(syscall.SIGTERM)
	if err := server.Wait(); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: the server ended with %v, want exit status 0\n", err)
		code = 1
	}
	if code != 0 {
		fmt.Fprintf(os.Stderr, "e2e: the server's log:\n%s", log.String())
	}
	return code
}

// readAddress reads what the server prints when it is ready, up to its address.
func readAddress(banner *bufio.Reader) (string, error) {
	for {
		line, err := banner.ReadString('\n')
		if match := bannerAddress.FindStringSubmatch(line); match != nil {
			return match[1], nil
		}
		if err != nil {
			return "", err
		}
	}
}

var bannerAddress = regexp.MustCompile(`at (http://[^\s]+)`)

// metric returns the sum of a metric's series, by its name.
func metric(t *testing.T, name string) float64 {
	t.Helper()
	response, err := http.Get(serverURL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	sum, found := 0.0, false
	for line := range strings.SplitSeq(string(body), "\n") {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		var value float64
		if _, err := fmt.Sscan(rest[strings.LastIndexByte(rest, ' ')+1:], &value); err != nil {
			t.Fatalf("metric line %q: %v", line, err)
		}
		sum, found = sum+value, true
	}
	if !found {
		t.Fatalf("/metrics has no %s", name)
	}
	return sum
}

// eventually polls a condition until it holds.
func eventually(condition func() bool) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		<-tick.C
	}
}

// TestJavaScriptClient runs the tests of *.test.mjs, which use the npm package openai, and holds what the server sent against
// the schemas of OpenAI's API.
func TestJavaScriptClient(t *testing.T) {
	if _, err := os.Stat("node_modules/openai"); err != nil {
		t.Fatal("node_modules/openai is missing; run `make e2e`, which installs it")
	}
	events := filepath.Join(t.TempDir(), "events")
	command := exec.Command("node", "--test", "client.test.mjs", "responses.test.mjs")
	command.Env = append(os.Environ(), "HEARTH_URL="+serverURL, "HEARTH_MODEL="+model, "HEARTH_EVENTS="+events)
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("node: %v\n%s", err, out)
	}
	if !bytes.Contains(out, []byte("# fail 0")) && !bytes.Contains(out, []byte("fail 0")) {
		t.Fatalf("node reported no result:\n%s", out)
	}
	t.Run("schemas", func(t *testing.T) { checkEvents(t, events) })
}

// checkEvents validates the lines of a file: the name of a schema, and a JSON text.
func checkEvents(t *testing.T, path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for line := range strings.Lines(string(data)) {
		schema, text, _ := strings.Cut(line, " ")
		sharedtest.Validate(t, schema, []byte(text))
		seen[schema]++
	}
	for _, schema := range []string{"ResponseStreamEvent", "ResponsesServerEvent", "Response", "ConversationResource", "CompactResource"} {
		if seen[schema] == 0 {
			t.Errorf("nothing of the schema %s was received", schema)
		}
	}
	t.Logf("checked %v", seen)
}
