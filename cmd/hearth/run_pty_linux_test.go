package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// openPTY returns both ends of a pseudo-terminal.
func openPTY(t *testing.T) (user, terminal *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { user.Close() })
	if err := unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { terminal.Close() })
	if err := unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	return user, terminal
}

// TestTerminalWidth asks terminals for their width, one that does not know it and a file.
func TestTerminalWidth(t *testing.T) {
	_, terminal := openPTY(t)
	for _, c := range []struct {
		columns uint16
		want    int
	}{{0, unknownWidth}, {132, 132}} {
		if err := unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: c.columns}); err != nil {
			t.Fatal(err)
		}
		if got := terminalWidth(terminal); got != c.want {
			t.Errorf("a terminal of %d columns: %d, want %d", c.columns, got, c.want)
		}
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if got := terminalWidth(file); got != 0 {
		t.Errorf("a file: %d, want 0", got)
	}
}

// TestRunOnTerminal runs the command on a real terminal and leaves it in every way; the terminal must then be as it was.
func TestRunOnTerminal(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	for _, c := range []struct {
		name  string
		leave func(t *testing.T, s *screen, user *os.File)
		want  string // of the error
	}{
		{"bye", func(_ *testing.T, _ *screen, user *os.File) { io.WriteString(user, "/bye\r") }, ""},
		{"Ctrl-D", func(_ *testing.T, _ *screen, user *os.File) { io.WriteString(user, "\x04") }, ""},
		{"Ctrl-C twice", func(t *testing.T, s *screen, user *os.File) {
			io.WriteString(user, "\x03")
			s.expect(t, firstPrompt)
			io.WriteString(user, "\x03")
		}, ""},
		{"terminated at the prompt", func(*testing.T, *screen, *os.File) { syscall.Kill(os.Getpid(), syscall.SIGTERM) }, "terminated"},
		{"hung up at the prompt", func(*testing.T, *screen, *os.File) { syscall.Kill(os.Getpid(), syscall.SIGHUP) }, "hangup"},
		{"terminated while answering", func(t *testing.T, s *screen, user *os.File) {
			io.WriteString(user, "Once upon a time\r")
			s.expect(t, "there was")
			syscall.Kill(os.Getpid(), syscall.SIGTERM)
		}, "terminated"},
	} {
		t.Run(c.name, func(t *testing.T) {
			user, terminal := openPTY(t)
			before, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
			if err != nil {
				t.Fatal(err)
			}
			s := newScreen()
			go io.Copy(s, user) // ends when the test closes the terminal
			root := newRootCommand()
			root.SetIn(terminal)
			root.SetOut(terminal)
			root.SetErr(io.Discard)
			root.SetArgs([]string{"run", "--threads", "1", "--temperature", "0"})
			ended := make(chan error, 1)
			go func() { ended <- root.ExecuteContext(t.Context()) }()
			s.expect(t, firstPrompt)
			if now, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS); err != nil || now.Lflag&unix.ICANON != 0 {
				t.Errorf("at the prompt the terminal is not raw, error %v", err)
			}
			c.leave(t, s, user)
			switch err := <-ended; {
			case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got error %v, want %q", err, c.want)
			}
			after, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
			if err != nil || *after != *before {
				t.Errorf("the terminal was %+v and is %+v, error %v", before, after, err)
			}
		})
	}
}
