package chat

import "encoding/json"

// Calls as JSON objects, of which several dialects make use:
//
//	{"name": "get_weather", "arguments": {"city": "Paris"}}
//
// The keys come in any order; other keys are passed over. Arguments may be an object or a string that holds one.

// readCallHeader reads as much of the object at position i as is needed to know that it is a call.
func (r *reply) readCallHeader(i int) (h callHeader, ok bool) {
	if !r.is(i, '{') {
		return h, false
	}
	for i++; i < maxHeader; i++ {
		i = r.space(i)
		key, next, ok := r.readString(i)
		if !ok {
			return h, false
		}
		if next = r.space(next); !r.is(next, ':') {
			return h, false
		}
		from := r.space(next + 1)
		isArguments := key == "arguments" || key == "parameters"
		if isArguments && h.name != "" {
			h.next = from
			return h, !r.atEnd(from)
		}
		if i, ok = r.valueEnd(from); !ok {
			return h, false
		}
		switch {
		case isArguments:
			h.arguments = r.text(from, i)
		case key == "name":
			h.name, _, _ = r.readString(from)
		case key == "id":
			h.id, _, _ = r.readString(from)
		}
		i = r.space(i)
		if r.is(i, '}') && h.name != "" {
			h.next, h.whole = i+1, true
			return h, true
		}
		if !r.is(i, ',') {
			return h, false
		}
	}
	return h, false
}

// readString reads the JSON string at position i.
func (r *reply) readString(i int) (s string, next int, ok bool) {
	next, ok = r.stringEnd(i, maxHeader)
	if !ok || json.Unmarshal([]byte(r.text(i, next)), &s) != nil {
		return "", i, false
	}
	return s, next, true
}

// stringEnd returns the position behind the JSON string at position i, which has to be before limit.
func (r *reply) stringEnd(i, limit int) (int, bool) {
	if !r.is(i, '"') {
		return i, false
	}
	for i++; i < limit; i++ {
		switch b, ok := r.at(i); {
		case !ok:
			return i, false
		case b == '"':
			return i + 1, true
		case b == '\\':
			i++
		}
	}
	return i, false
}

// valueEnd returns the position behind the JSON value at position i.
func (r *reply) valueEnd(i int) (int, bool) {
	from := i
	depth := 0
	for i < maxHeader {
		b, ok := r.at(i)
		if !ok {
			return i, false
		}
		switch {
		case b == '"':
			if i, ok = r.stringEnd(i, maxHeader); !ok {
				return i, false
			}
			if depth == 0 {
				return i, true
			}
			continue
		case b == '{' || b == '[':
			depth++
		case depth == 0 && (b == ',' || b == '}' || b == ']' || isSpace(b)):
			return i, i > from
		case b == '}' || b == ']':
			if depth--; depth == 0 {
				return i + 1, true
			}
		}
		i++
	}
	return i, false
}

// jsonCalls is a block of such calls. Models write a brace too many before its end at times.
func jsonCalls(separator, closer string) *block {
	return &block{
		separator: separator, close: closer,
		header: func(r *reply, i int) (callHeader, bool) {
			h, ok := r.readCallHeader(i)
			return h, ok && (!r.dialect.atStart || r.tools.has(h.name))
		},
		arguments: func(r *reply, h *callHeader) (int, bool) {
			n := 0
			switch {
			case h.whole && h.arguments != "":
				r.write(CallArguments, argumentsOf(h.arguments))
			case h.whole:
				r.write(CallArguments, "{}")
			case !r.readJSON(closer):
				return 0, false
			default:
				n = r.objectEnd()
			}
			next := r.space(n)
			for closer != "" && r.is(next, '}') {
				next = r.space(next + 1)
			}
			if closer != "" && r.has(next, closer) {
				n = next
			}
			return n, true
		},
	}
}

// readJSON hands on a JSON value as arguments. Where it is not JSON, it ends with the closer, or with the reply; it
// returns false if the reply was cut off before its end.
func (r *reply) readJSON(closer string) bool {
	if r.is(0, '"') {
		return r.readQuoted()
	}
	if r.has(0, "null") {
		r.skip(CallArguments, len("null"))
		r.write(CallArguments, "{}")
		return true
	}
	depth, quoted := 0, false
	for {
		b, ok := r.at(0)
		switch {
		case !ok:
			return r.complete
		case quoted && b == '\\':
			if r.atEnd(1) {
				r.show(CallArguments, 1)
				return r.complete
			}
			r.show(CallArguments, 2)
			continue
		case b == '"':
			quoted = !quoted
		case quoted:
		case b == '{' || b == '[':
			depth++
		case depth == 0 && (b == ',' || b == '}' || b == ']' || isSpace(b)):
			return true
		case b == '}' || b == ']':
			if depth--; depth == 0 {
				r.show(CallArguments, 1)
				return true
			}
		case closer != "" && r.has(0, closer):
			return true
		}
		r.show(CallArguments, 1)
	}
}

// readMarkedJSON hands on a JSON value as arguments, and returns the position behind the marks that follow it and the white
// space around them. Models leave any of them out; the last one ends what is not JSON.
func (r *reply) readMarkedJSON(marks ...string) (next int, complete bool) {
	if !r.readJSON(marks[len(marks)-1]) {
		return 0, false
	}
	next = r.space(0)
	for _, mark := range marks {
		if r.has(next, mark) {
			next = r.space(next + len(mark))
		}
	}
	return next, true
}

// readQuoted hands on arguments that are the text of a string. A string without an end is handed on as it is.
func (r *reply) readQuoted() bool {
	end := 1
	for {
		b, ok := r.at(end)
		if !ok {
			r.show(CallArguments, end)
			return r.complete
		}
		if b == '"' {
			break
		}
		if b == '\\' && !r.atEnd(end+1) {
			end++
		}
		end++
	}
	text := argumentsOf(r.text(0, end+1))
	r.skip(CallArguments, end+1)
	r.write(CallArguments, text)
	return true
}

// argumentsOf returns arguments that are the text of a JSON string as that text, others as they are.
func argumentsOf(raw string) string {
	var text string
	if raw[0] == '"' && json.Unmarshal([]byte(raw), &text) == nil {
		return text
	}
	if raw == "null" {
		return "{}"
	}
	return raw
}

// objectEnd returns the position behind the rest of an object, of which it has read a value. Where there is no such rest
// it is 0.
func (r *reply) objectEnd() int {
	i := r.space(0)
	for r.is(i, ',') {
		next, ok := r.stringEnd(r.space(i+1), maxHeader)
		if !ok {
			return 0
		}
		if next = r.space(next); !r.is(next, ':') {
			return 0
		}
		if next, ok = r.valueEnd(r.space(next + 1)); !ok {
			return 0
		}
		i = r.space(next)
	}
	if r.is(i, '}') {
		return i + 1
	}
	return 0
}
