package sessions

import (
	"errors"
	"strings"
	"time"

	"hearth/engine"
	"hearth/engine/chat"
	"hearth/engine/tokenizer"
)

// encodePrompt renders and encodes the prompt of a turn.
func encodePrompt(m *engine.Served, t *Turn) ([]int32, error) {
	tok := m.Tokenizer
	switch {
	case t.Tokens != nil:
		return t.Tokens, nil
	case t.Text != nil && t.Suffix != "":
		return infillPrompt(tok, *t.Text, t.Suffix)
	case t.Text != nil:
		return tok.Encode(*t.Text, tokenizer.EncodeOptions{AddSpecial: true}), nil
	}
	prompt, err := chat.ParsePrompt(t.Messages, t.TemplateVars)
	if err != nil {
		return nil, promptError(err)
	}
	if prompt.Tools, err = chat.ParseTools(t.Tools); err != nil {
		return nil, promptError(err)
	}
	if prompt.Now = t.Now; t.Now.IsZero() {
		prompt.Now = time.Now()
	}
	prompt.AddGenerationPrompt = true
	prompt.Guard = tok.Guard
	text, err := m.Template.Render(prompt)
	if err != nil {
		return nil, &InputError{"messages", err}
	}
	return tok.EncodeGuarded(text, tokenizer.EncodeOptions{AddSpecial: !beginsWithBOS(tok, text)}), nil
}

// promptError takes the field that an error of chat.ParsePrompt begins with, such as "messages[2].role", apart.
func promptError(err error) error {
	if field, reason, ok := strings.Cut(err.Error(), ": "); ok {
		return &InputError{field, errors.New(reason)}
	}
	return &InputError{"messages", err}
}

// beginsWithBOS reports whether a template wrote the begin-of-sequence token itself; a second one degrades output.
func beginsWithBOS(tok *tokenizer.Tokenizer, text string) bool {
	bos, ok := tok.BOS()
	if !ok {
		return true
	}
	name, _ := tok.Token(bos)
	return len(text) >= len(name) && text[:len(name)] == name
}

// infillPrompt asks for the text between prefix and suffix, in the order prefix, suffix, middle that the models with
// these tokens were trained on (arXiv 2207.14255).
func infillPrompt(tok *tokenizer.Tokenizer, prefix, suffix string) ([]int32, error) {
	fim, ok := tok.FIM()
	if !ok {
		return nil, &InputError{"suffix", errors.New("this model has no fill-in-the-middle tokens")}
	}
	var ids []int32
	if bos, ok := tok.BOS(); ok && tok.AddBOS() {
		ids = append(ids, bos)
	}
	ids = append(ids, fim.Prefix)
	ids = append(ids, tok.Encode(prefix, tokenizer.EncodeOptions{})...)
	ids = append(ids, fim.Suffix)
	ids = append(ids, tok.Encode(suffix, tokenizer.EncodeOptions{})...)
	return append(ids, fim.Middle), nil
}
