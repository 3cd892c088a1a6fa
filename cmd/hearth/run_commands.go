package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"
)

// chatCommand is a line that begins with a slash.
type chatCommand struct {
	name      string
	arguments string // as /help shows them; empty: it takes none
	help      string
	run       func(c *chat, ctx context.Context, arguments string) error
}

// chatCommandList returns all commands; a function, since /help lists it.
func chatCommandList() []chatCommand {
	return []chatCommand{
		{"help", "", "show this list", (*chat).help},
		{"clear", "", "forget the conversation; the system prompt stays", (*chat).clear},
		{"system", "[TEXT]", `show or set the system prompt; "" removes it`, (*chat).system},
		{"set", "[NAME VALUE]", "show or change how answers are drawn", (*chat).set},
		{"history", "", "show the conversation so far", (*chat).history},
		{"save", "FILE", "write the conversation to a file, as JSON", (*chat).save},
		{"load", "FILE", "go on with a conversation from a file", (*chat).load},
		{"regenerate", "", "answer the last message again", (*chat).regenerate},
		{"stats", "", "show counts and speed of the last answer", (*chat).stats},
		{"bye", "", "leave; also Ctrl-D, or Ctrl-C twice", (*chat).bye},
	}
}

// commandForm tells commands from messages that begin with a path.
var commandForm = regexp.MustCompile(`^/[A-Za-z?]*(\s|$)`)

func isCommand(text string) bool { return commandForm.MatchString(text) }

// command carries out a command. What is wrong with it is said; errBye and errors of the terminal are returned.
func (c *chat) command(ctx context.Context, text string) error {
	name, arguments, _ := strings.Cut(text[1:], " ")
	arguments = strings.TrimSpace(arguments)
	for _, command := range chatCommandList() {
		if command.name != strings.ToLower(strings.TrimSpace(name)) {
			continue
		}
		if command.arguments == "" && arguments != "" {
			c.say("/%s takes no argument\n\n", command.name)
			return nil
		}
		return command.run(c, ctx, arguments)
	}
	c.say("There is no command /%s; /help lists them. A space before the slash makes the line a message.\n\n", name)
	return nil
}

// completeCommand completes the name of a command at the tab key.
func completeCommand(line string, pos int, key rune) (string, int, bool) {
	if key != '\t' || !strings.HasPrefix(line, "/") || pos != len(line) {
		return "", 0, false
	}
	common, found := "", 0
	for _, command := range chatCommandList() {
		name := "/" + command.name
		if !strings.HasPrefix(name, line) {
			continue
		}
		if found++; found == 1 {
			common = name
			if command.arguments != "" {
				common += " "
			}
			continue
		}
		for !strings.HasPrefix(name, common) {
			common = common[:len(common)-1]
		}
	}
	if found == 0 {
		return "", 0, false
	}
	return common, len(common), true
}

func (c *chat) help(context.Context, string) error {
	var text strings.Builder
	for _, command := range chatCommandList() {
		fmt.Fprintf(&text, "  %-18s %s\n", "/"+command.name+" "+command.arguments, command.help)
	}
	text.WriteString(`
A line that ends with \ goes on in the next one. A message between """ and """
may have any number of lines; pasted lines are one message. Ctrl-C stops an
answer. The keys up and down bring back earlier lines.

`)
	c.say("%s", text.String())
	return nil
}

func (c *chat) clear(context.Context, string) error {
	c.talk.messages, c.last = nil, nil
	c.say("The conversation is forgotten.\n\n")
	return nil
}

func (c *chat) system(_ context.Context, text string) error {
	switch text {
	case "":
		if c.talk.system == "" {
			c.say("There is no system prompt.\n\n")
			return nil
		}
		c.say("%s\n\n", c.talk.system)
		return nil
	case `""`:
		c.talk.system = ""
		c.say("The system prompt is removed.\n\n")
		return nil
	}
	c.talk.system = text
	c.say("The system prompt is set.\n\n")
	return nil
}

func (c *chat) set(_ context.Context, text string) error {
	fields := strings.Fields(text)
	switch len(fields) {
	case 0:
		for i := range settingList {
			s := &settingList[i]
			c.say("  %-12s %-8s %s\n", s.name, s.get(&c.settings), s.help)
		}
		c.say("\n")
		return nil
	case 2:
		s, ok := settingNamed(strings.ReplaceAll(fields[0], "-", "_"))
		if !ok {
			c.say("There is no setting %s; /set lists them.\n\n", fields[0])
			return nil
		}
		if err := s.set(&c.settings, fields[1]); err != nil {
			c.say("%s: %v\n\n", s.name, err)
			return nil
		}
		c.say("%s is %s.\n\n", s.name, s.get(&c.settings))
		return nil
	}
	c.say("Usage: /set NAME VALUE, or /set alone to list what can be set.\n\n")
	return nil
}

func (c *chat) history(context.Context, string) error {
	all := c.talk.all()
	if len(all) == 0 {
		c.say("Nothing has been said yet.\n\n")
		return nil
	}
	for _, m := range all {
		c.say("%s: %s\n", m.Role, m.Content)
	}
	c.say("\n")
	return nil
}

func (c *chat) save(_ context.Context, path string) error {
	if path == "" {
		c.say("Usage: /save FILE\n\n")
		return nil
	}
	path, err := expandHome(path)
	if err == nil {
		err = c.talk.save(path)
	}
	if err != nil {
		c.say("error: %v\n\n", err)
		return nil
	}
	c.say("%d messages are in %s.\n\n", len(c.talk.all()), path)
	return nil
}

func (c *chat) load(_ context.Context, path string) error {
	if path == "" {
		c.say("Usage: /load FILE\n\n")
		return nil
	}
	path, err := expandHome(path)
	var talk *conversation
	if err == nil {
		talk, err = readConversation(path)
	}
	if err != nil {
		c.say("error: %v\n\n", err)
		return nil
	}
	c.talk, c.last = *talk, nil
	c.say("The conversation has %d messages now.\n\n", len(talk.all()))
	return nil
}

// regenerate answers the last message again; the answer it had comes back if there is no other.
func (c *chat) regenerate(ctx context.Context, _ string) error {
	before := c.talk.messages
	kept := before
	if n := len(kept); n > 0 && kept[n-1].Role == roleAssistant {
		kept = kept[: n-1 : n-1]
	}
	if len(kept) == 0 {
		c.say("There is no message to answer.\n\n")
		return nil
	}
	if c.settings.sampling.Temperature == 0 {
		c.say("[temperature is 0: the answer will be the same]\n")
	}
	c.talk.messages = kept
	c.attempt++
	answered, err := c.answer(ctx)
	if !answered {
		c.talk.messages = before
	}
	return err
}

func (c *chat) stats(context.Context, string) error {
	if c.last == nil {
		c.say("There is no answer yet.\n\n")
		return nil
	}
	u, t := c.last.finish.Usage, c.last.finish.Timing
	c.say("  prompt               %d tokens, %d of them cached\n", u.PromptTokens, u.CachedTokens)
	c.say("  time to first token  %s\n", roundTime(t.Queued+t.Prefill))
	c.say("  answer               %d tokens, %s\n", u.GeneratedTokens, c.last.speed())
	c.say("  finished because     %s\n", c.last.finish.Reason)
	c.say("  seed                 %d\n", c.last.seed)
	c.say("  context              %d of %d tokens\n\n", u.PromptTokens+u.GeneratedTokens, c.generator.model.ContextLength)
	return nil
}

func (c *chat) bye(context.Context, string) error { return errBye }
