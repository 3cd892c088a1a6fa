package disk

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// childFolder makes the test a process that writes to a folder until it is killed.
const childFolder = "HEARTH_DISK_TEST_FOLDER"

func killOptions(dir string) Options {
	return Options{Dir: dir, MaxBytes: 8 << 20, SegmentBytes: 256 << 10}
}

// TestKilledProcess kills a process that writes, again and again: the folder is free for the next at once, which finds
// all that was said to be written.
func TestKilledProcess(t *testing.T) {
	if dir := os.Getenv(childFolder); dir != "" {
		child(dir)
	}
	dir := t.TempDir()
	for round := range 3 {
		command := exec.Command(os.Args[0], "-test.run=^TestKilledProcess$")
		command.Env = append(os.Environ(), childFolder+"="+dir)
		out, err := command.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		lines, last := bufio.NewScanner(out), -1
		for last < 40+17*round && lines.Scan() {
			if last, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatalf("the child says %q", lines.Text())
			}
		}
		if err := command.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		command.Wait() // it was killed
		s := open(t, killOptions(dir))
		for i := range last + 1 {
			wantRecord(t, s, "a", i, 5000)
		}
		s.check(t)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func child(dir string) {
	s, err := Open(killOptions(dir))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i := 0; ; i++ {
		r := Record{Tenant: "a", Key: key(i), Tokens: i, Recompute: time.Millisecond, Data: data(i, 5000)}
		if !s.Put(r) {
			os.Exit(2)
		}
		if i%3 == 2 {
			if err := s.Sync(context.Background()); err != nil {
				fmt.Println(err)
				os.Exit(3)
			}
			fmt.Println(i)
		}
	}
}
