package chat

import "strings"

// tagged is how a dialect writes calls with tags, and arguments as text between tags. Whether the text of an argument is
// a string or JSON is up to the schema of the parameter, or to the tag.
type tagged struct {
	open, close             string // around a block of calls; empty where each call stands for itself
	call, nameEnd, callEnd  string // `<invoke name="`, `">`, `</invoke>`
	param, keyEnd, paramEnd string // `<parameter name="`, `">`, `</parameter>`
	value                   string // between keyEnd and the text, where the key has tags of its own
	lines                   bool   // the text of an argument stands on lines of its own
	isString, isJSON        string // instead of keyEnd, where the tag says it: `" string="true">`
	bare                    bool   // models leave out the opening tag at times
}

// triggers are what a block begins with.
func (t *tagged) triggers() []string {
	switch {
	case t.open == "":
		return []string{t.call}
	case t.bare:
		return []string{t.open, t.call}
	}
	return []string{t.open}
}

// markers are the tags without parts that vary.
func (t *tagged) markers() []string {
	var list []string
	for _, tag := range []string{t.open, t.close, t.call, t.callEnd, t.param, t.keyEnd, t.value, t.paramEnd} {
		if strings.HasPrefix(tag, "<") && strings.HasSuffix(tag, ">") {
			list = append(list, tag)
		}
	}
	return list
}

// read reads a block of calls at position i.
func (t *tagged) read(r *reply, i int) bool {
	bare := t.open == "" || !r.has(i, t.open)
	if !bare {
		i = r.space(i + len(t.open))
	}
	if bare && t.open != "" {
		if h, ok := t.header(r, i); !ok || !r.tools.has(h.name) {
			return false
		}
	}
	calls := block{header: t.header, arguments: t.arguments, close: t.close}
	return calls.read(r, i)
}

// header reads the beginning of a call at position i, up to its arguments.
func (t *tagged) header(r *reply, i int) (h callHeader, ok bool) {
	if !r.has(i, t.call) {
		return h, false
	}
	i += len(t.call)
	if t.nameEnd != "" {
		h.name, i, ok = r.name(i, t.nameEnd[:1])
		h.next = i + len(t.nameEnd)
		return h, ok && r.has(i, t.nameEnd)
	}
	// Nothing marks the end of the name but what has to follow it.
	h.name, i, ok = r.name(i, "\n<")
	h.name, h.next = strings.TrimSpace(h.name), r.space(i)
	return h, ok && (r.has(h.next, t.param) || r.has(h.next, t.callEnd))
}

// arguments reads parameters up to the end of the call, and returns the position behind it. It returns false if the
// reply was cut off.
func (t *tagged) arguments(r *reply, h *callHeader) (int, bool) {
	before, after := "{", "{}"
	for {
		n := r.space(0)
		key, allowed, next, ok := t.parameter(r, n)
		if ok {
			if allowed == 0 {
				allowed = r.tools.parameters(h.name).property(key).types()
			}
			r.skip(CallArguments, next)
			r.write(CallArguments, before+quoteJSON(key)+": ")
			if !t.argument(r, allowed) {
				return 0, false
			}
			before, after = ", ", "}"
			continue
		}
		switch {
		case r.has(n, t.callEnd):
			n += len(t.callEnd)
		case t.close != "" && r.has(n, t.close):
		case r.atEnd(n) && !r.complete:
			r.skip(CallArguments, n)
			return 0, false
		default: // text, or nothing: the call ends here
			n = 0
		}
		r.write(CallArguments, after)
		return n, true
	}
}

// parameter reads the beginning of a parameter at position i, up to its text. Types are those that the tag allows, 0 if
// it says nothing.
func (t *tagged) parameter(r *reply, i int) (key string, allowed types, next int, ok bool) {
	if !r.has(i, t.param) {
		return "", 0, i, false
	}
	key, i, ok = r.name(i+len(t.param), t.keyEnd[:1])
	switch {
	case !ok:
		return "", 0, i, false
	case t.isString != "" && r.has(i, t.isString):
		return key, stringType, i + len(t.isString), true
	case t.isJSON != "" && r.has(i, t.isJSON):
		return key, anyType, i + len(t.isJSON), true
	case !r.has(i, t.keyEnd):
		return "", 0, i, false
	}
	i += len(t.keyEnd)
	if t.value != "" {
		if i = r.space(i); !r.has(i, t.value) {
			return "", 0, i, false
		}
		i += len(t.value)
	}
	return key, 0, i, true
}

// argument reads the text of an argument and its closing tag. A string is handed on as it comes, anything else once it
// is whole.
func (t *tagged) argument(r *reply, allowed types) bool {
	if t.lines && r.is(0, '\n') {
		r.skip(CallArguments, 1)
	}
	if allowed != stringType {
		return t.argumentJSON(r, allowed)
	}
	r.write(CallArguments, `"`)
	for {
		if end, ok := t.argumentEnd(r, 0); ok {
			r.skip(CallArguments, end)
			break
		}
		if r.atEnd(0) {
			if !r.complete {
				return false
			}
			break
		}
		r.escape()
	}
	r.write(CallArguments, `"`)
	return true
}

func (t *tagged) argumentJSON(r *reply, allowed types) bool {
	for i := 0; ; i++ {
		end, ok := t.argumentEnd(r, i)
		if !ok && !r.atEnd(i) {
			continue
		}
		if !ok {
			if end = i; !r.complete {
				r.show(CallArguments, end)
				return false
			}
		}
		text := r.text(0, i)
		r.skip(CallArguments, end)
		r.write(CallArguments, jsonValue(text, allowed))
		return true
	}
}

// argumentEnd reports whether the text of an argument ends at position i, and the position behind its closing tag. The
// text itself may contain such a tag: it ends only where the next parameter or the end of the call follows. Models
// leave out the closing tag of the last argument at times.
func (t *tagged) argumentEnd(r *reply, i int) (int, bool) {
	if t.lines && r.is(i, '\n') {
		i++
	}
	if r.has(i, t.paramEnd) {
		end := i + len(t.paramEnd)
		next := r.space(end)
		if r.atEnd(next) || r.has(next, t.param) || r.has(next, t.callEnd) || t.close != "" && r.has(next, t.close) {
			return end, true
		}
		return i, false
	}
	if r.has(i, t.callEnd) {
		next := r.space(i + len(t.callEnd))
		return i, r.atEnd(next) || t.close == "" || r.has(next, t.close) || r.has(next, t.call)
	}
	return i, false
}
