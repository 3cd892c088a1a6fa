package server

import (
	"unicode/utf8"

	"hearth/sessions"
)

// tokenizeRequest is the body of POST /tokenize, as llama.cpp's clients (content) and vLLM's (prompt, messages) send it.
type tokenizeRequest struct {
	model        string
	text         *string
	special      *bool // nil: as the client's kind has it, true with prompt and false with content
	isPrompt     bool
	parseSpecial bool
	pieces       bool
	chat         generation // its messages
}

var tokenizeFields = []field[tokenizeRequest]{
	{name: "model", use: honoured, read: text(func(t *tokenizeRequest, s string) { t.model = s })},
	{name: "content", use: honoured, read: text(func(t *tokenizeRequest, s string) { t.text = &s })},
	{name: "prompt", use: honoured, read: text(func(t *tokenizeRequest, s string) { t.text, t.isPrompt = &s, true })},
	{name: "messages", use: honoured, read: func(t *tokenizeRequest, v value) error { return readMessages(&t.chat, v) }},
	{name: "chat_template_kwargs", use: honoured, read: func(t *tokenizeRequest, v value) error { return readTemplateVars(&t.chat, v) }},
	{name: "add_special", use: honoured, read: boolean(func(t *tokenizeRequest, b bool) { t.special = &b })},
	{name: "add_special_tokens", use: honoured, read: boolean(func(t *tokenizeRequest, b bool) { t.special = &b })},
	{name: "parse_special", use: honoured, read: boolean(func(t *tokenizeRequest, b bool) { t.parseSpecial = b })},
	{name: "with_pieces", use: honoured, read: boolean(func(t *tokenizeRequest, b bool) { t.pieces = b })},
	refuse[tokenizeRequest]("add_generation_prompt", "", "true"),
	refuse[tokenizeRequest]("continue_final_message", "", "false"),
	refuse[tokenizeRequest]("return_token_strs", "with_pieces returns them", "false"),
	refuse[tokenizeRequest]("tools", "", "[]"),
}

type tokenizeAnswer struct {
	Count       int `json:"count"`
	MaxModelLen int `json:"max_model_len"`
	Tokens      any `json:"tokens"` // ids, or tokenPieces
}

type tokenPiece struct {
	ID    int32 `json:"id"`
	Piece any   `json:"piece"` // its text, or its bytes where they are no text
}

// tokenize answers POST /tokenize. Without a model it is the first one.
func (s *Server) tokenize(x *exchange) error {
	var t tokenizeRequest
	if err := readTable(x, tokenizeFields, &t); err != nil {
		return err
	}
	m, err := s.modelOrFirst(x, t.model)
	if err != nil {
		return err
	}
	var ids []int32
	switch {
	case t.chat.turn.Messages != nil && t.text != nil:
		return invalidRequest("messages", "send messages or a text, not both")
	case t.chat.turn.Messages != nil:
		t.chat.turn.Model, t.chat.turn.Now = m.ID, s.opts.Now()
		ids, err = s.store.PromptTokens(&t.chat.turn)
	case t.text != nil:
		opts := sessions.EncodeOptions{ParseSpecial: t.parseSpecial, AddSpecial: t.isPrompt}
		if t.special != nil {
			opts.AddSpecial = *t.special
		}
		ids, err = s.store.Tokenize(m.ID, *t.text, opts)
	default:
		return missing("content")
	}
	if err != nil {
		return err
	}
	answer := tokenizeAnswer{Count: len(ids), MaxModelLen: m.ContextLength, Tokens: ids}
	if ids == nil {
		answer.Tokens = []int32{}
	}
	if t.pieces {
		raw, err := s.store.Pieces(m.ID, ids)
		if err != nil {
			return err
		}
		pieces := make([]tokenPiece, len(ids))
		for i, id := range ids {
			pieces[i] = tokenPiece{id, string(raw[i])}
			if !utf8.Valid(raw[i]) {
				pieces[i].Piece = byteList(raw[i])
			}
		}
		answer.Tokens = pieces
	}
	return x.answer(answer)
}

// detokenizeRequest is the body of POST /detokenize.
type detokenizeRequest struct {
	model  string
	tokens []int32
}

var detokenizeFields = []field[detokenizeRequest]{
	{name: "model", use: honoured, read: text(func(d *detokenizeRequest, s string) { d.model = s })},
	{name: "tokens", use: honoured, read: func(d *detokenizeRequest, v value) error {
		if v.equals("[]") {
			d.tokens = []int32{}
			return nil
		}
		tokens, err := readTokens(v)
		d.tokens = tokens
		return err
	}},
}

// detokenize answers POST /detokenize; the text is under both names that clients look for. Bytes that are no character
// become U+FFFD.
func (s *Server) detokenize(x *exchange) error {
	var d detokenizeRequest
	if err := readTable(x, detokenizeFields, &d); err != nil {
		return err
	}
	if d.tokens == nil {
		return missing("tokens")
	}
	m, err := s.modelOrFirst(x, d.model)
	if err != nil {
		return err
	}
	content, err := s.store.Detokenize(m.ID, d.tokens)
	if err != nil {
		return err
	}
	return x.answer(struct {
		Content string `json:"content"`
		Prompt  string `json:"prompt"`
	}{content, content})
}

// modelOrFirst returns the named model, or without a name the one loaded first.
func (s *Server) modelOrFirst(x *exchange, id string) (sessions.Model, error) {
	if id == "" {
		models := s.store.Models()
		if len(models) == 0 {
			return sessions.Model{}, sessions.ErrLoading
		}
		id = models[0].ID
	}
	m, err := s.model(id)
	x.model = m.ID
	return m, err
}
