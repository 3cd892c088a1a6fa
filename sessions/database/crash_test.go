package database

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// crashFile names, in the environment of a child process, the database that it writes until it is killed.
const crashFile = "HEARTH_TEST_CRASH"

func TestMain(m *testing.M) {
	if path := os.Getenv(crashFile); path != "" {
		fmt.Println("error", writeUntilKilled(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeUntilKilled runs turns of a session and tells of each one that was acknowledged.
func writeUntilKilled(path string) error {
	ctx := context.Background()
	d, err := Open(ctx, path, Options{})
	if err != nil {
		return err
	}
	s, err := d.Session(ctx, "a", "conv")
	if err != nil {
		s = &Session{ID: "conv", Tenant: "a"}
		if err := d.CreateSession(ctx, s, nil); err != nil {
			return err
		}
	}
	var tokens []int32
	if s.Log != 0 {
		l, err := d.Log(ctx, "a", s.Log)
		if err != nil {
			return err
		}
		tokens = l.Tokens
	}
	for i, parent := s.Items/2, s.Log; ; i++ {
		list := messages(fmt.Sprintf("m%d_", i), 2)
		r := &Response{ID: fmt.Sprint("resp_", i), Tenant: "a", Session: "conv", Status: InProgress}
		if _, err := d.DeleteResponse(ctx, "a", r.ID); err == nil {
			fmt.Println("cut", i) // its turn was running when an earlier process was killed
		}
		if err := d.CreateResponse(ctx, r, list[:1]); err != nil {
			return err
		}
		l := &Log{Model: "m", Parent: parent, Shared: len(tokens)}
		tokens = append(tokens, int32(i), int32(i))
		l.Tokens = tokens
		r.Status = "completed"
		err := d.FinishTurn(ctx, "a", &TurnEnd{Response: r, Output: list[1:], Session: "conv", Append: list, Log: l, Usage: &Usage{Model: "m", Requests: 1}})
		if err != nil {
			return err
		}
		parent = l.ID
		fmt.Println("acknowledged", i)
	}
}

// TestKilled kills a process again and again while it writes. What it told of is there, each turn whole or not at all: the
// items, the response, the log and the usage agree.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	random := rand.New(rand.NewPCG(3, 4))
	acknowledged := -1
	for range 8 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), crashFile+"="+path)
		output, err := child.StdoutPipe()
		check(t, err)
		check(t, child.Start())
		lines := bufio.NewScanner(output)
		for left := random.IntN(12); lines.Scan(); left-- {
			if left == 0 {
				check(t, child.Process.Kill())
			}
			var i int
			if _, err := fmt.Sscanf(lines.Text(), "acknowledged %d", &i); err == nil {
				acknowledged = i
			} else if strings.HasPrefix(lines.Text(), "error") {
				t.Fatal(lines.Text())
			}
		}
		child.Wait() // says that it was killed
		verifyTurns(t, path, acknowledged)
	}
}

func verifyTurns(t *testing.T, path string, acknowledged int) {
	t.Helper()
	ctx := t.Context()
	d, err := Open(ctx, path, Options{})
	check(t, err)
	defer d.Close()
	verifySums(t, d)
	if acknowledged < 0 {
		return
	}
	items := allItems(t, d, "a", "conv")
	turns := len(items) / 2
	if turns <= acknowledged || len(items)%2 != 0 {
		t.Fatalf("%d items are there, and turn %d was acknowledged", len(items), acknowledged)
	}
	var want []int32
	for i := range turns {
		want = append(want, int32(i), int32(i))
		r := must(d.Response(ctx, "a", fmt.Sprint("resp_", i)))(t)
		if output := must(d.OutputItems(ctx, "a", r.ID))(t); r.Status != "completed" || len(output) != 1 || output[0].ID != items[2*i+1] {
			t.Errorf("turn %d: %+v with output %v", i, r, ids(output))
		}
	}
	s := must(d.Session(ctx, "a", "conv"))(t)
	if l := must(d.Log(ctx, "a", s.Log))(t); !slices.Equal(l.Tokens, want) {
		t.Errorf("the log is %v, want %v", l.Tokens, want)
	}
	usage := must(d.UsageOf(ctx, "a", "", "9999"))(t)
	requests := int64(0)
	for _, u := range usage {
		requests += u.Requests
	}
	if requests != int64(turns) {
		raw, _ := json.Marshal(usage)
		t.Errorf("%d turns are there, and usage is %s", turns, raw)
	}
}
