package main

import "strings"

// composer puts a message together from typed lines. A message is one line, and goes on in the next one
//
//	line one\          after a backslash,
//	"""line one        until quotes like those before it close,
//	line one           when the line end was pasted.
type composer struct {
	lines   []string
	quoted  bool // between triple quotes
	literal bool // quoted or pasted: not a command, whatever it begins with
}

const tripleQuote = `"""`

// add takes the next line and reports whether the message is complete.
func (m *composer) add(line string, pasted bool) bool {
	if len(m.lines) == 0 && !m.quoted {
		if rest, ok := strings.CutPrefix(strings.TrimLeft(line, " \t"), tripleQuote); ok {
			m.quoted, m.literal = true, true
			line = rest
			if strings.TrimSpace(line) == "" {
				return false
			}
		}
	}
	if m.quoted {
		text, closed := strings.CutSuffix(strings.TrimRight(line, " \t"), tripleQuote)
		if closed {
			line = text
		}
		if !closed || line != "" || len(m.lines) == 0 {
			m.lines = append(m.lines, line)
		}
		return closed
	}
	if pasted {
		m.literal = true
		m.lines = append(m.lines, line)
		return false
	}
	if text, more := strings.CutSuffix(line, `\`); more {
		m.lines = append(m.lines, text)
		return false
	}
	if line != "" || !m.literal { // a line end that was pasted last leaves an empty line
		m.lines = append(m.lines, line)
	}
	return true
}

// empty reports whether nothing has been typed yet.
func (m *composer) empty() bool { return len(m.lines) == 0 && !m.quoted }

// text is the message.
func (m *composer) text() string { return strings.Join(m.lines, "\n") }
