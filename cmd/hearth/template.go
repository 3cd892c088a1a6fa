package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"hearth/engine"
	prompts "hearth/engine/chat" // the terminal client has a function of that name
	"hearth/engine/chat/jinja"
	"hearth/engine/weights"
)

func newTemplateCommand() *cobra.Command {
	var (
		modelPath, templatePath, messagesPath string
		lines, served, noGenerationPrompt     bool
	)
	command := &cobra.Command{
		Use:   "template [--model M | --template F.jinja] (--jsonl | --messages F.json)",
		Short: "Render conversations with a chat template",
		Long: `Prints the prompts that a chat template makes of conversations. The template is a model's, or a file.

--jsonl reads a conversation a line from standard input and prints a line {"rendered": …} or {"error": …} for each:
  {"messages": […], "tools": […], "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>",
   "now": "2024-07-26T12:00:00", "extra": {"enable_thinking": false}}
Only messages is needed. The tokens' default is the model's; now is the time that templates may print, by default the
present; extra are further variables.

--messages reads one conversation, such an object or only an array of messages, and prints the prompt alone. "-" is
standard input.

The template gets messages exactly as they are. With --served they are checked and brought into the form that the
template wants, as the server does.

A model is a GGUF file, also one without tensors, or a Hugging Face folder, also one without weights.`,
		Example: `  hearth template --model model.gguf --messages conversation.json
  hearth template --template chat_template.jinja --jsonl < conversations.jsonl > prompts.jsonl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !lines && messagesPath == "" {
				return errors.New("no conversation is given: name its file with --messages, or read conversations with --jsonl")
			}
			source, err := openTemplate(modelPath, templatePath)
			if err != nil {
				return err
			}
			parse := prompts.ParseVerbatim
			if served {
				parse = prompts.ParsePrompt
			}
			if lines {
				return eachLine(cmd.InOrStdin(), cmd.OutOrStdout(), func(c *templateLine) (any, error) {
					text, err := c.render(source, parse)
					if err != nil {
						return map[string]string{"error": err.Error()}, nil
					}
					return map[string]string{"rendered": text}, nil
				})
			}
			c, err := readTemplateInput(cmd.InOrStdin(), messagesPath)
			if err != nil {
				return err
			}
			if c.AddGenerationPrompt == nil {
				add := !noGenerationPrompt
				c.AddGenerationPrompt = &add
			}
			text, err := c.render(source, parse)
			if err != nil {
				return err
			}
			_, err = io.WriteString(cmd.OutOrStdout(), text)
			return err
		},
	}
	flags := command.Flags()
	flags.StringVar(&modelPath, "model", "", "model file or folder (default: the embedded model)")
	flags.StringVar(&templatePath, "template", "", "template file, instead of a model's")
	flags.StringVar(&messagesPath, "messages", "", "JSON file with one conversation, - for standard input")
	flags.BoolVar(&lines, "jsonl", false, "read and print JSON lines")
	flags.BoolVar(&served, "served", false, "check and convert messages as the server does")
	flags.BoolVar(&noGenerationPrompt, "no-generation-prompt", false, "with --messages: do not begin the assistant's answer")
	command.MarkFlagsMutuallyExclusive("model", "template")
	command.MarkFlagsMutuallyExclusive("jsonl", "messages")
	return command
}

// templateSource is a template before the tokens of a conversation are known.
type templateSource struct {
	text     string
	bos, eos string
	compiled *prompts.Template // with the tokens above
}

// openTemplate reads a template from a file, or a model's. A model without one has the fallback.
func openTemplate(modelPath, templatePath string) (*templateSource, error) {
	if templatePath != "" {
		text, err := os.ReadFile(templatePath)
		if err != nil {
			return nil, err
		}
		compiled, err := prompts.New(string(text), "", "")
		return &templateSource{text: string(text), compiled: compiled}, err
	}
	tok, err := engine.OpenTokenizerPath(modelPath)
	if err != nil {
		return nil, err
	}
	text, err := modelTemplate(modelPath)
	if err != nil {
		return nil, err
	}
	s := &templateSource{text: text, compiled: prompts.Fallback()}
	if id, ok := tok.BOS(); ok {
		s.bos, _ = tok.Token(id)
	}
	if id, ok := tok.EOS(); ok {
		s.eos, _ = tok.Token(id)
	}
	if text != "" {
		s.compiled, err = prompts.New(text, s.bos, s.eos)
	}
	return s, err
}

// modelTemplate returns the text of a model's template, empty when it has none.
func modelTemplate(path string) (string, error) {
	const name = "tokenizer.chat_template"
	src, err := engine.OpenSource(path)
	if err == nil {
		defer src.Close()
		text, _ := src.Metadata().String(name)
		return text, nil
	}
	if info, statErr := os.Stat(path); statErr != nil || !info.IsDir() {
		return "", err
	}
	md, err := weights.ReadTemplates(path) // a folder without weights
	if err != nil {
		return "", err
	}
	text, _ := md.String(name)
	return text, nil
}

// with returns the template with a conversation's tokens, where it has some of its own.
func (s *templateSource) with(bos, eos *string) (*prompts.Template, error) {
	if s.compiled.IsFallback() || (bos == nil || *bos == s.bos) && (eos == nil || *eos == s.eos) {
		return s.compiled, nil
	}
	if bos == nil {
		bos = &s.bos
	}
	if eos == nil {
		eos = &s.eos
	}
	compiled, err := prompts.New(s.text, *bos, *eos)
	if err == nil { // the next conversation will likely have the same
		s.compiled, s.bos, s.eos = compiled, *bos, *eos
	}
	return compiled, err
}

// templateLine is a conversation with what its rendering depends on; other fields are ignored.
type templateLine struct {
	Messages            []json.RawMessage `json:"messages"`
	Tools               json.RawMessage   `json:"tools"`
	AddGenerationPrompt *bool             `json:"add_generation_prompt"`
	BOS                 *string           `json:"bos_token"`
	EOS                 *string           `json:"eos_token"`
	Now                 string            `json:"now"`
	Extra               json.RawMessage   `json:"extra"`
}

// readTemplateInput reads a conversation, or an array of messages, from a file.
func readTemplateInput(stdin io.Reader, path string) (*templateLine, error) {
	var (
		data []byte
		err  error
	)
	if path == "-" {
		data, err = io.ReadAll(stdin)
	} else {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, err
	}
	c := &templateLine{}
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("[")) {
		err = json.Unmarshal(data, &c.Messages)
	} else {
		err = json.Unmarshal(data, c)
	}
	if err != nil {
		return nil, fmt.Errorf("--messages %s: %w", path, err)
	}
	return c, nil
}

func (c *templateLine) render(source *templateSource, parse func([]json.RawMessage, json.RawMessage) (*prompts.Prompt, error)) (string, error) {
	if c.Messages == nil {
		return "", errors.New("messages: is missing")
	}
	prompt, err := parse(c.Messages, c.Extra)
	if err != nil {
		return "", err
	}
	if len(c.Tools) > 0 {
		if prompt.Tools, err = jinja.ParseJSON(c.Tools); err != nil {
			return "", fmt.Errorf("tools: %w", err)
		}
	}
	if prompt.Now, err = parseNow(c.Now); err != nil {
		return "", err
	}
	prompt.AddGenerationPrompt = c.AddGenerationPrompt != nil && *c.AddGenerationPrompt
	template, err := source.with(c.BOS, c.EOS)
	if err != nil {
		return "", err
	}
	return template.Render(prompt)
}

// parseNow reads a time with or without a zone; without one it is the time that the template prints.
func parseNow(text string) (time.Time, error) {
	if text == "" {
		return time.Now(), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05", time.DateOnly} {
		if now, err := time.Parse(layout, text); err == nil {
			return now, nil
		}
	}
	return time.Time{}, fmt.Errorf("now: %q is no time, want one such as 2024-07-26T12:00:00", text)
}
