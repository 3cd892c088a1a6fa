package jinja

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// Error is a fault of a template: of its syntax, or of what it does with the values it is given.
type Error struct {
	Line int // in the template, from 1
	Err  error
}

// Error names the line and the fault.
func (e *Error) Error() string { return fmt.Sprintf("jinja: line %d: %v", e.Line, e.Err) }

// Unwrap returns the fault.
func (e *Error) Unwrap() error { return e.Err }

// Raised is a template's own refusal of its input, by raise_exception.
type Raised struct {
	Line    int // in the template, from 1
	Message string
}

// Error returns the template's message alone: it is written for the user.
func (e *Raised) Error() string { return e.Message }

// located adds the line to an error that has none.
func located(line int, err error) error {
	if err == nil {
		return nil
	}
	var (
		at     *Error
		raised *Raised
	)
	if errors.As(err, &at) || errors.As(err, &raised) {
		return err
	}
	return &Error{line, err}
}

// Template is a parsed template. It is immutable; its methods may be called concurrently.
type Template struct {
	body   []statement
	limits Options
}

// Parse compiles a template. Errors are *Error, or name the field of opts that is wrong.
func Parse(source string, opts Options) (*Template, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if len(source) > maxSourceBytes {
		return nil, fmt.Errorf("jinja: a template of %d bytes, the limit is %d", len(source), maxSourceBytes)
	}
	if !utf8.ValidString(source) {
		return nil, errors.New("jinja: the template is not valid UTF-8")
	}
	tokens, err := lex(source)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	body, err := p.body()
	if err != nil {
		return nil, err
	}
	if len(p.unknown) > 0 {
		return nil, p.unknown[0]
	}
	return &Template{body, opts.withDefaults()}, nil
}

// RenderOptions are what a rendering gets besides its variables.
type RenderOptions struct {
	Now time.Time // what strftime_now formats
	// Guard marks each run of text in the output that came from outside the template; nil leaves it as it is.
	Guard func(string) string
}

// Render fills the template with variables. It does not modify vars, which renderings may share. Errors are *Error,
// where errors.Is(err, ErrLimit) says that a limit was exceeded, and *Raised.
func (t *Template) Render(vars *Dict, opts RenderOptions) (string, error) {
	st := &state{meter: meter{limits: t.limits}, vars: vars, now: opts.Now}
	out := &textBuilder{meter: &st.meter}
	if _, err := st.run(&scope{}, t.body, out); err != nil {
		return "", err
	}
	text, err := out.text()
	if err != nil {
		return "", located(1, err)
	}
	return text.guarded(opts.Guard), nil
}
