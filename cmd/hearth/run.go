package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"hearth/engine"
	"hearth/engine/embedded"
	"hearth/hardware"
	"hearth/sessions"
)

// runFlags are the flags of the command run.
type runFlags struct {
	engine   engineFlags
	settings settings
	system   string
	verbose  bool
}

func newRunCommand() *cobra.Command {
	flags := runFlags{settings: defaultSettings()}
	command := &cobra.Command{
		Use:   "run [MODEL [PROMPT]]",
		Short: "Chat with a model in the terminal",
		Long: `Loads a model and chats with it. MODEL is a GGUF file or a Hugging Face folder; without it, or with "", the embedded
model runs. /help lists what can be done in the chat.

With a PROMPT, or when standard input or output is no terminal, it answers once: the prompt is PROMPT, or all of standard
input, and only the answer is written to standard output. Ctrl-C ends that with status 130; in the chat it ends the answer, and
twice at the prompt the chat.`,
		Example: `  hearth run
  hearth run qwen3-0.6b-q8_0.gguf --system "You are brief."
  hearth run model.gguf "Name three rivers." --temperature 0
  echo "Once upon a time" | hearth run > story.txt`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			std := streams{in: cmd.InOrStdin(), out: cmd.OutOrStdout(), err: cmd.ErrOrStderr()}
			std.inTerminal, std.outTerminal = isTerminal(std.in), isTerminal(std.out)
			model := modelArg{}
			if len(args) > 0 && args[0] != embedded.Name {
				model.path = args[0]
			}
			if len(args) < 2 && std.inTerminal && std.outTerminal {
				return runChat(cmd.Context(), model, &flags, std)
			}
			prompt, err := promptOf(cmd.Context(), args, std)
			if err != nil {
				return err
			}
			return runOnce(cmd.Context(), model, &flags, prompt, std)
		},
	}
	flags.add(command)
	return command
}

func (f *runFlags) add(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVar(&f.system, "system", "", "system prompt")
	flags.BoolVar(&f.verbose, "verbose", false, "print speed and counts after each answer")
	for i := range settingList {
		s := &settingList[i]
		flags.Var(settingFlag{s, &f.settings}, strings.ReplaceAll(s.name, "_", "-"), s.help)
	}
	f.engine.add(flags)
	completeEngine(command)
	completeDraft(command)
	for _, name := range []string{"parallel", "max-queue"} { // there is one conversation
		if err := flags.MarkHidden(name); err != nil {
			panic("cmd: " + err.Error())
		}
	}
}

// streams are where a command reads and writes.
type streams struct {
	in                      io.Reader
	out, err                io.Writer
	inTerminal, outTerminal bool
}

// isTerminal reports whether a stream is a file, and that a terminal.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// maxPromptBytes bounds what is read into memory; no context holds as much.
const maxPromptBytes = 64 << 20

// promptOf returns the prompt of a single answer: the second argument, or all of standard input without the line end
// that commands such as echo add.
func promptOf(ctx context.Context, args []string, std streams) (string, error) {
	prompt := ""
	if len(args) == 2 {
		prompt = args[1]
	} else {
		if std.inTerminal {
			fmt.Fprintln(std.err, "hearth: the prompt is read from the terminal; Ctrl-D on an empty line ends it")
		}
		data, err := readPrompt(ctx, std.in)
		if err != nil {
			return "", err
		}
		prompt = strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	}
	if !utf8.ValidString(prompt) {
		return "", errors.New("the prompt is not UTF-8")
	}
	if strings.TrimSpace(prompt) == "" {
		return "", errors.New("the prompt is empty")
	}
	return prompt, nil
}

// readPrompt reads a prompt to its end, or until ctx ends. What blocks a process in reading does not end with it: the goroutine
// that does then lives as long as the process.
func readPrompt(ctx context.Context, in io.Reader) ([]byte, error) {
	type input struct {
		data []byte
		err  error
	}
	read := make(chan input, 1)
	go func() {
		data, err := io.ReadAll(io.LimitReader(in, maxPromptBytes+1))
		read <- input{data, err}
	}()
	select {
	case <-ctx.Done():
		return nil, interrupted(ctx)
	case i := <-read:
		switch {
		case i.err != nil:
			return nil, fmt.Errorf("standard input: %w", i.err)
		case len(i.data) > maxPromptBytes:
			return nil, fmt.Errorf("standard input is longer than %d bytes", maxPromptBytes)
		}
		return i.data, nil
	}
}

// runOnce writes the answer to one prompt; everything else that there is to say goes to the error stream.
func runOnce(ctx context.Context, model modelArg, flags *runFlags, prompt string, std streams) (err error) {
	g, err := openGenerator(ctx, model, flags, std.err)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	talk := conversation{system: flags.system, messages: []message{{roleUser, prompt}}}
	write := std.out
	if std.outTerminal {
		write = visibleWriter{std.out}
	}
	a, err := g.generate(ctx, talk.all(), &flags.settings, flags.settings.nextSeed(0), write)
	if a.text != "" && !strings.HasSuffix(a.text, "\n") && err == nil {
		_, err = fmt.Fprintln(std.out)
	}
	if err != nil {
		return err
	}
	if a.cancelled() {
		return interrupted(ctx)
	}
	if a.contextFull(g.model.ContextLength) {
		fmt.Fprintf(std.err, "hearth: the answer ends where the context of %d tokens is full\n", g.model.ContextLength)
	}
	if flags.verbose {
		fmt.Fprintln(std.err, a.summary())
	}
	return nil
}

// openGenerator opens the device and loads the model, with a progress bar when the process has a terminal.
func openGenerator(ctx context.Context, model modelArg, flags *runFlags, messages io.Writer) (*generator, error) {
	logger := warnings(messages)
	device, err := flags.engine.device.open(logger)
	if err != nil {
		return nil, err
	}
	return openGeneratorOn(ctx, device, model, flags, logger)
}

// openGeneratorOn is openGenerator on a device, which is closed with the generator, or when there is none.
func openGeneratorOn(ctx context.Context, device hardware.Device, model modelArg, flags *runFlags, logger *slog.Logger) (_ *generator, err error) {
	catalog := engine.NewCatalog()
	g := &generator{store: sessions.NewStore(catalog, nil), closers: []io.Closer{catalog, device}}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	opts, err := flags.engine.options(device, []modelArg{model}, logger)
	if err != nil {
		return nil, err
	}
	if opts.MaxSequences == 0 {
		opts.MaxSequences = 1
	}
	if err := loadModel(ctx, catalog, model, opts, logger); err != nil {
		if ctx.Err() != nil {
			return nil, interrupted(ctx)
		}
		return nil, err
	}
	g.model = g.store.Models()[0]
	return g, nil
}

// warnings is a logger for commands that have no log of their own.
func warnings(out io.Writer) *slog.Logger { return slog.New(&plainHandler{out: out}) }

// plainHandler writes warnings and errors as lines for people.
type plainHandler struct {
	out   io.Writer
	attrs []slog.Attr
}

func (h *plainHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn
}

func (h *plainHandler) Handle(_ context.Context, r slog.Record) error {
	var line strings.Builder
	line.WriteString("hearth: " + r.Message)
	write := func(a slog.Attr) bool {
		if value := a.Value.String(); value != "" {
			fmt.Fprintf(&line, ", %s %q", a.Key, value)
		}
		return true
	}
	for _, a := range h.attrs {
		write(a)
	}
	r.Attrs(write)
	line.WriteByte('\n')
	_, err := io.WriteString(h.out, visible(line.String()))
	return err
}

func (h *plainHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &plainHandler{h.out, append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

// WithGroup leaves the names as they are: lines for people need no namespaces.
func (h *plainHandler) WithGroup(string) slog.Handler { return h }
