package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"hearth/engine"
	"hearth/engine/weights"
	"hearth/hardware"
	"hearth/hardware/cpu"
	"hearth/hardware/devicetest"
	"hearth/sessions"
)

// screen collects what is written and lets a test wait for it.
type screen struct {
	mu      sync.Mutex // guards the rest
	text    string
	seen    int           // of text, what the test has waited for
	changed chan struct{} // closed at each change
}

func newScreen() *screen { return &screen{changed: make(chan struct{})} }

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text += string(p)
	close(s.changed)
	s.changed = make(chan struct{})
	return len(p), nil
}

// expect waits until text appears behind what was expected before, and returns what stands between.
func (s *screen) expect(t *testing.T, text string) string {
	t.Helper()
	for {
		s.mu.Lock()
		before, _, found := strings.Cut(s.text[s.seen:], text)
		if found {
			s.seen += len(before) + len(text)
		}
		changed := s.changed
		s.mu.Unlock()
		if found {
			return before
		}
		<-changed
	}
}

// chatTest is a chat with the embedded model on a fake terminal.
type chatTest struct {
	*screen
	t       *testing.T
	chat    *chat
	keys    *io.PipeWriter
	signals chan os.Signal
	isRaw   func() bool
	ended   chan error
}

func startChat(t *testing.T, flags runFlags) *chatTest { return startChatWith(t, modelArg{}, flags) }

func startChatWith(t *testing.T, model modelArg, flags runFlags) *chatTest {
	t.Helper()
	device, err := cpu.Open(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	return startChatOn(t, device, model, flags)
}

// startPaced is startChat in a bubble of synctest, by whose clock the device is paced: what is pressed while an answer is
// shown comes before the answer ends.
func startPaced(t *testing.T) *chatTest {
	t.Helper()
	device, err := cpu.Open(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	return startChatOn(t, devicetest.Paced{Device: device, Step: time.Millisecond}, modelArg{}, runFlags{})
}

func startChatOn(t *testing.T, device hardware.Device, model modelArg, flags runFlags) *chatTest {
	t.Helper()
	flags.engine.kvType = "f16"
	g, err := openGeneratorOn(t.Context(), device, model, &flags, warnings(io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	in, keys := io.Pipe()
	c := &chatTest{screen: newScreen(), t: t, keys: keys, signals: make(chan os.Signal, 4), ended: make(chan error, 1)}
	var console *console
	console, c.isRaw = fakeTerminal(in, c.screen)
	c.chat = &chat{generator: g, console: console, signals: c.signals, settings: flags.settings, verbose: flags.verbose, talk: conversation{system: flags.system}}
	go func() { c.ended <- c.chat.run(context.Background()) }()
	t.Cleanup(func() {
		keys.Close()
		if err := g.close(); err != nil {
			t.Error(err)
		}
	})
	c.expect(t, firstPrompt)
	return c
}

// enter types keys and waits for the next prompt; it returns what appeared between.
func (c *chatTest) enter(keys string) string {
	c.t.Helper()
	c.press(keys)
	return c.expect(c.t, firstPrompt)
}

func (c *chatTest) press(keys string) {
	c.t.Helper()
	if _, err := io.WriteString(c.keys, keys); err != nil {
		c.t.Fatal(err)
	}
}

// end waits for the chat to end and checks that the terminal is given back.
func (c *chatTest) end() error {
	c.t.Helper()
	err := <-c.ended
	if c.isRaw() {
		c.t.Error("the terminal is left raw")
	}
	return err
}

// tell fails the test unless all parts are in got.
func (c *chatTest) tell(got string, parts ...string) {
	c.t.Helper()
	for _, part := range parts {
		if !strings.Contains(got, part) {
			c.t.Errorf("%q is not in %q", part, got)
		}
	}
}

// greedyFlags make answers that are short and the same every time.
func greedyFlags() runFlags {
	s := settings{maxTokens: 12}
	return runFlags{settings: s}
}

func TestChat(t *testing.T) {
	c := startChat(t, greedyFlags())
	first := c.enter("Once upon a time\r")
	c.tell(first, "there was a little girl", "max_tokens is 12")
	c.tell(c.enter("/stats\r"), "5 tokens, 0 of them cached", "12 tokens,", "finished because     length", "17 of 512 tokens")
	c.enter("She said\\\rhello\r")
	c.tell(c.enter("/history\r"), "user: Once upon a time", "assistant: , there was", "user: She said\nhello")
	if n := len(c.chat.talk.messages); n != 4 {
		t.Errorf("the conversation has %d messages, want 4", n)
	}
	second := c.chat.talk.messages[3]
	c.tell(c.enter("/regenerate\r"), "the answer will be the same")
	if n := len(c.chat.talk.messages); n != 4 || c.chat.talk.messages[3] != second {
		t.Errorf("regenerated to %q, want %q again", c.chat.talk.messages, second)
	}
	c.tell(c.enter("/set temperature 1\r"), "temperature is 1.")
	c.tell(c.enter("/set seed 5\r"), "seed is 5.")
	c.enter("/regenerate\r")
	third := c.chat.talk.messages[3]
	if c.chat.last.seed != 7 || third == second {
		t.Errorf("the second other attempt has seed %d, want 7, and answer %q", c.chat.last.seed, third)
	}
	c.tell(c.enter("/clear\r"), "forgotten")
	c.tell(c.enter("/history\r"), "Nothing has been said")
	c.tell(c.enter("/regenerate\r"), "no message to answer")
	c.tell(c.enter("/stats\r"), "no answer yet")
	c.press("/bye\r")
	if err := c.end(); err != nil {
		t.Error(err)
	}
}

func TestChatCommands(t *testing.T) {
	c := startChat(t, greedyFlags())
	path := filepath.Join(t.TempDir(), "talk.json")
	for _, s := range []struct{ keys, want string }{
		{"/help\r", "/regenerate"},
		{"/HELP\r", "/regenerate"},
		{"/help me\r", "takes no argument"},
		{"/nothing\r", "no command /nothing"},
		{"/set\r", "max_tokens   12"},
		{"/set top-p 0.5\r", "top_p is 0.5."},
		{"/set top_p 3\r", "top_p: must be between 0 and 1"},
		{"/set top_k -1\r", `top_k: "-1" is not`},
		{"/set color red\r", "no setting color"},
		{"/set seed\r", "Usage"},
		{"/set seed random\r", "seed is random."},
		{"/set max_tokens 3\r", "max_tokens is 3."},
		{"/system\r", "no system prompt"},
		{"/system Be\\\rkind.\r", "is set"},
		{"/system\r", "Be\nkind."},
		{"/var/log is full\r", "max_tokens is 3."},
		{" /clear is a word\r", "max_tokens is 3."},
		{`"""` + "\r/clear\r" + `"""` + "\r", "max_tokens is 3."},
		{"/save\r", "Usage"},
		{"/save " + path + "\r", "7 messages"},
		{"/system \"\"\r", "removed"},
		{"/clear\r", "forgotten"},
		{"/load " + path + "\r", "7 messages"},
		{"/load " + path + ".none\r", "no such file"},
		{"/history\r", "user: /clear is a word\n"},
		{"\r", ""},
		{"  \r", ""},
	} {
		if got := c.enter(s.keys); !strings.Contains(got, s.want) {
			t.Errorf("%q: got %q, want %q", s.keys, got, s.want)
		}
	}
	if c.chat.talk.system != "Be\nkind." || len(c.chat.talk.messages) != 6 {
		t.Errorf("loaded %+v", c.chat.talk)
	}
	c.press("\x04")
	if err := c.end(); err != nil {
		t.Error(err)
	}
}

// TestChatInterrupt: Ctrl-C stops an answer and keeps what there is of it; at a prompt it discards the line; at an empty
// prompt it says how to leave, and twice it leaves.
func TestChatInterrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startPaced(t)
		c.press("Once upon a time\r")
		c.expect(t, "there was")
		if c.isRaw() {
			t.Error("the terminal is raw while the model runs")
		}
		c.signals <- os.Interrupt
		c.expect(t, "[stopped]\n")
		c.expect(t, firstPrompt)
		if m := c.chat.talk.messages; len(m) != 2 || !strings.HasPrefix(m[1].Content, ", there was") {
			t.Errorf("the conversation is %q", m)
		}
		c.tell(c.enter("unfinished\x03"), "^C")
		c.tell(c.enter(`"""`+"\rmore\r\x03"), nextPrompt+"more", "^C")
		c.tell(c.enter("\x03"), leaveHint[:10])
		c.enter("/stats\r") // anything between makes it the first one again
		c.signals <- os.Interrupt
		c.expect(t, leaveHint[:10])
		c.press("\x03")
		if err := c.end(); err != nil {
			t.Error(err)
		}
	})
}

func TestChatSignal(t *testing.T) {
	for _, during := range []string{"prompt", "answer"} {
		synctest.Test(t, func(t *testing.T) {
			c := startPaced(t)
			if during == "answer" {
				c.press("Once upon a time\r")
				c.expect(t, "there was")
			}
			c.signals <- syscall.SIGTERM
			if err := c.end(); err == nil || !strings.Contains(err.Error(), "terminated") {
				t.Errorf("during the %s: got %v", during, err)
			}
		})
	}
}

// TestChatContextFull: a message that does not fit is not added, one that leaves no room is answered as far as it goes.
func TestChatContextFull(t *testing.T) {
	flags := greedyFlags()
	flags.engine.context = 64
	flags.settings.maxTokens = 0
	c := startChat(t, flags)
	c.tell(c.enter("Once upon a time\r"), "context of 64 tokens is full, 5 of the conversation and 59 of the answer", "/clear", "up to 512 tokens")
	before := c.chat.talk.all()
	got := c.enter(strings.Repeat("many words ", 40) + "\r")
	c.tell(got, "The context is full", "the context holds 64", "/clear")
	if after := c.chat.talk.all(); len(after) != len(before) {
		t.Errorf("the conversation had %d messages and has %d", len(before), len(after))
	}
	c.enter("/set max_tokens 1000\r")
	c.tell(c.enter("She\r"), "context of 64 tokens is full")
}

// TestChatFollowUp: what was computed for one message is found again for the next.
func TestChatFollowUp(t *testing.T) {
	flags := greedyFlags()
	flags.verbose = true
	c := startChat(t, flags)
	c.tell(c.enter(strings.Repeat("Once upon a time there was a cat. ", 8)+"\r"), ", 0 of them cached; answer 12 tokens")
	c.tell(c.enter("The cat sat.\r"), ", 64 of them cached; answer 12 tokens")
}

// modelWithTemplate writes the embedded model with a chat template.
func modelWithTemplate(t *testing.T, template string) modelArg {
	t.Helper()
	src, err := engine.OpenSource("")
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	md := src.Metadata().Clone()
	md.Set("tokenizer.chat_template", template)
	var tensors []weights.NewTensor
	for _, name := range src.Names() {
		tensor, err := src.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		tensors = append(tensors, weights.NewTensor{Name: name, Type: tensor.Type, Shape: tensor.Shape, Write: func(w io.Writer) error {
			_, err := w.Write(tensor.Data)
			return err
		}})
	}
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := weights.SaveGGUF(path, md, tensors); err != nil {
		t.Fatal(err)
	}
	return modelArg{path: path}
}

// TestChatTemplate: the model gets the whole conversation, answers included, and finds most of it computed. What a
// template says when it refuses a message cannot drive the terminal.
func TestChatTemplate(t *testing.T) {
	model := modelWithTemplate(t, `{% for m in messages %}{% if 'forbidden' in m.content %}{{ raise_exception('not \x1b[31mthat') }}{% endif %}`+
		`{{ m.role }} says{{ m.content }}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}assistant says{% endif %}`)
	flags := greedyFlags()
	flags.settings.maxTokens, flags.system, flags.verbose = 100, "Tell stories.", true
	c := startChatWith(t, model, flags)
	c.tell(c.enter("Once upon a time\r"), " 0 of them cached")
	prompt, err := c.chat.generator.store.PromptTokens(&sessions.Turn{Model: c.chat.generator.model.ID, Messages: encodeMessages(c.chat.talk.all())})
	if err != nil {
		t.Fatal(err)
	}
	text, err := c.chat.generator.store.Detokenize(c.chat.generator.model.ID, prompt)
	if want := "saysTell stories.\nuser saysOnce upon a time\nassistant says" + c.chat.talk.messages[1].Content; err != nil || !strings.Contains(text, want) {
		t.Errorf("the model would get %q, error %v; want %q in it", text, err, want)
	}
	c.tell(c.enter("And then\r"), " 128 of them cached")
	c.tell(c.enter("The forbidden word\r"), `not \x1b[31mthat`)
	if n := len(c.chat.talk.messages); n != 4 {
		t.Errorf("%d messages, want 4", n)
	}
}

// TestChatRestoresAnswer: when an attempt to regenerate comes to nothing, the answer that was there comes back.
func TestChatRestoresAnswer(t *testing.T) {
	c := startChat(t, greedyFlags())
	c.enter("Once upon a time\r")
	before := c.chat.talk.all()
	c.chat.generator.model = sessions.Model{ID: "gone"}
	c.tell(c.enter("/regenerate\r"), `unknown model: "gone"`)
	c.tell(c.enter("And then\r"), `unknown model: "gone"`)
	if after := c.chat.talk.all(); len(after) != len(before) || after[1] != before[1] {
		t.Errorf("the conversation was %q and is %q", before, after)
	}
}

// TestChatHangup: a terminal that goes away ends the chat.
func TestChatHangup(t *testing.T) {
	c := startChat(t, runFlags{})
	c.keys.Close()
	if err := c.end(); err != nil {
		t.Error(err)
	}
	c = startChat(t, runFlags{})
	broken := errors.New("input/output error")
	c.keys.CloseWithError(broken)
	if err := c.end(); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}
