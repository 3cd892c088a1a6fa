package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"hearth/engine/api"
	"hearth/sessions"
)

// conversation is a chat in the terminal: what was said so far, and how the model is to go on. It belongs to one
// goroutine.
type conversation struct {
	store      *sessions.Store
	model      sessions.Model
	system     string
	messages   []chatLine
	parameters parameters
	out        io.Writer
	plain      bool // the output is no terminal and gets the text as it is
}

// chatLine is a message in the form that templates read.
type chatLine struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// parameters are what /set changes.
type parameters struct {
	sampling  api.Sampling
	maxTokens int
	seeded    bool // the seed was chosen
}

func defaultParameters() parameters {
	return parameters{sampling: api.Sampling{Temperature: 0.8, TopK: 40, TopP: 0.95, RepeatLastN: -1}}
}

// parameter is one that /set knows.
type parameter struct {
	name      string
	low, high float64
	whole     bool
	value     func(*parameters) float64
	set       func(*parameters, float64)
}

var parameterTable = []parameter{
	{"temperature", 0, 2, false, func(p *parameters) float64 { return float64(p.sampling.Temperature) }, func(p *parameters, f float64) { p.sampling.Temperature = float32(f) }},
	{"top_p", 0, 1, false, func(p *parameters) float64 { return float64(p.sampling.TopP) }, func(p *parameters, f float64) { p.sampling.TopP = float32(f) }},
	{"top_k", 0, 1e9, true, func(p *parameters) float64 { return float64(p.sampling.TopK) }, func(p *parameters, f float64) { p.sampling.TopK = int(f) }},
	{"min_p", 0, 1, false, func(p *parameters) float64 { return float64(p.sampling.MinP) }, func(p *parameters, f float64) { p.sampling.MinP = float32(f) }},
	{"repeat_penalty", 0, 10, false, func(p *parameters) float64 { return float64(p.sampling.RepeatPenalty) }, func(p *parameters, f float64) { p.sampling.RepeatPenalty = float32(f) }},
	{"presence_penalty", -2, 2, false, func(p *parameters) float64 { return float64(p.sampling.PresencePenalty) }, func(p *parameters, f float64) { p.sampling.PresencePenalty = float32(f) }},
	{"frequency_penalty", -2, 2, false, func(p *parameters) float64 { return float64(p.sampling.FrequencyPenalty) }, func(p *parameters, f float64) { p.sampling.FrequencyPenalty = float32(f) }},
	{"max_tokens", 0, 1e9, true, func(p *parameters) float64 { return float64(p.maxTokens) }, func(p *parameters, f float64) { p.maxTokens = int(f) }},
	{"seed", 0, 1 << 53, true, func(p *parameters) float64 { return float64(p.sampling.Seed) }, func(p *parameters, f float64) { p.sampling.Seed, p.seeded = uint64(f), true }},
}

// set changes a parameter by its name.
func (p *parameters) set(name, text string) error {
	i := slices.IndexFunc(parameterTable, func(q parameter) bool { return q.name == name })
	if i < 0 {
		names := make([]string, len(parameterTable))
		for i, q := range parameterTable {
			names[i] = q.name
		}
		return fmt.Errorf("there is no parameter %q; there are %s", name, strings.Join(names, ", "))
	}
	q := parameterTable[i]
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || !(f >= q.low && f <= q.high) || q.whole && f != float64(int64(f)) {
		kind := "a number"
		if q.whole {
			kind = "a whole number"
		}
		return fmt.Errorf("%s must be %s from %v to %v, got %q", name, kind, q.low, q.high, text)
	}
	q.set(p, f)
	return nil
}

// say sends a message, writes the answer as it comes, and remembers both. When ctx ends the answer so far is kept.
func (c *conversation) say(ctx context.Context, text string) error {
	c.messages = append(c.messages, chatLine{"user", text})
	turn, err := c.turn()
	if err != nil {
		return err
	}
	stream, err := c.store.Run(ctx, turn)
	if err != nil {
		c.messages = c.messages[:len(c.messages)-1] // so that the next try does not carry it
		return err
	}
	defer stream.Close()
	var answer strings.Builder
	var finish *sessions.Finish
	for {
		d, ok := stream.Next()
		if !ok {
			break
		}
		answer.WriteString(d.Text)
		if _, err := io.WriteString(c.out, c.printable(d.Text)); err != nil {
			return err
		}
		finish = d.Finish
	}
	c.messages = append(c.messages, chatLine{"assistant", answer.String()})
	if !strings.HasSuffix(answer.String(), "\n") {
		fmt.Fprintln(c.out)
	}
	if finish != nil && finish.Reason == api.FinishError {
		return finish.Err
	}
	return nil
}

// turn is the request for the next answer.
func (c *conversation) turn() (*sessions.Turn, error) {
	messages := c.messages
	if c.system != "" {
		messages = append([]chatLine{{"system", c.system}}, messages...)
	}
	turn := &sessions.Turn{
		ID: "run", Model: c.model.ID, Now: time.Now(), Logprobs: -1,
		Sampling: c.parameters.sampling, MaxTokens: c.parameters.maxTokens,
	}
	if !c.parameters.seeded {
		turn.Sampling.Seed = rand.Uint64()
	}
	for _, m := range messages {
		raw, err := json.Marshal(m)
		if err != nil {
			return nil, err
		}
		turn.Messages = append(turn.Messages, raw)
	}
	return turn, nil
}

// printable keeps a model from writing control sequences to a terminal.
func (c *conversation) printable(text string) string {
	if c.plain {
		return text
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// command is one that begins with a slash.
type command struct {
	name, arguments, help string
	run                   func(c *conversation, argument string) (leave bool, err error)
}

// commandTable returns the commands; /help, which prints them, is one of them.
func commandTable() []command {
	return []command{
		{"/help", "", "show this", func(c *conversation, _ string) (bool, error) { return false, c.help() }},
		{"/clear", "", "forget the conversation", func(c *conversation, _ string) (bool, error) {
			c.messages = nil
			return false, nil
		}},
		{"/system", "[TEXT]", "show or set the system message; \"\" removes it", (*conversation).commandSystem},
		{"/set", "[NAME VALUE]", "show the parameters or set one", (*conversation).commandSet},
		{"/history", "", "show the conversation", func(c *conversation, _ string) (bool, error) {
			for _, m := range c.messages {
				fmt.Fprintf(c.out, "%s: %s\n", m.Role, c.printable(m.Content))
			}
			return false, nil
		}},
		{"/model", "", "show what is running", func(c *conversation, _ string) (bool, error) {
			fmt.Fprintf(c.out, "%s: %s, %d parameters, %s, context of %d tokens\n", c.model.ID, c.model.Architecture, c.model.Parameters, c.model.Quantization, c.model.ContextLength)
			return false, nil
		}},
		{"/bye", "", "leave", func(*conversation, string) (bool, error) { return true, nil }},
	}
}

// command runs a line that begins with a slash.
func (c *conversation) command(line string) (leave bool, err error) {
	name, argument, _ := strings.Cut(strings.TrimSpace(line), " ")
	for _, cmd := range commandTable() {
		if cmd.name == name || name == "/?" && cmd.name == "/help" || name == "/exit" && cmd.name == "/bye" {
			return cmd.run(c, strings.TrimSpace(argument))
		}
	}
	return false, fmt.Errorf("there is no command %s; /help lists them", name)
}

func (c *conversation) help() error {
	for _, cmd := range commandTable() {
		fmt.Fprintf(c.out, "  %-22s %s\n", strings.TrimSpace(cmd.name+" "+cmd.arguments), cmd.help)
	}
	_, err := fmt.Fprint(c.out, `
  """ begins and ends a message of several lines; so does \ at the end of a line for one more.
  Ctrl-C stops an answer, twice it leaves; so does Ctrl-D. Arrow keys edit and go through earlier lines.
`)
	return err
}

func (c *conversation) commandSystem(argument string) (bool, error) {
	switch argument {
	case "":
		fmt.Fprintf(c.out, "%q\n", c.system)
	case `""`:
		c.system = ""
	default:
		c.system = argument
	}
	return false, nil
}

func (c *conversation) commandSet(argument string) (bool, error) {
	if argument == "" {
		for _, q := range parameterTable {
			fmt.Fprintf(c.out, "  %-18s %s\n", q.name, strconv.FormatFloat(q.value(&c.parameters), 'g', 6, 64))
		}
		return false, nil
	}
	name, value, _ := strings.Cut(argument, " ")
	return false, c.parameters.set(name, strings.TrimSpace(value))
}

// message joins the lines of one message: a pair of """ holds any number of them, and a backslash at the end of a line
// asks for one more.
type message struct {
	lines  []string
	quoted bool
}

// add takes a line; done says that the message is complete.
func (m *message) add(line string) (text string, done bool) {
	const quotes = `"""`
	if m.quoted {
		before, ends := strings.CutSuffix(strings.TrimRight(line, " "), quotes)
		if !ends {
			m.lines = append(m.lines, line)
			return "", false
		}
		if before != "" {
			m.lines = append(m.lines, before)
		}
		return strings.Join(m.lines, "\n"), true
	}
	if len(m.lines) == 0 {
		if rest, begins := strings.CutPrefix(strings.TrimLeft(line, " "), quotes); begins {
			if inner, ends := strings.CutSuffix(rest, quotes); ends {
				return inner, true
			}
			m.quoted = true
			if rest != "" {
				m.lines = append(m.lines, rest)
			}
			return "", false
		}
	}
	if before, more := strings.CutSuffix(line, `\`); more {
		m.lines = append(m.lines, before)
		return "", false
	}
	m.lines = append(m.lines, line)
	return strings.Join(m.lines, "\n"), true
}
