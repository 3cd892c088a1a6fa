package chat

// minimaxMark precedes every tag of a MiniMax-M3 call.
const minimaxMark = "]<]minimax[>["

// minimaxM3 is the form of MiniMax-M3 (its template), where M is the mark: every argument is a tag, objects and arrays
// are tags within it.
//
//	M<tool_call>
//	M<invoke name="f">M<city>ParisM</city>M<days>M<item>1M</item>M<item>2M</item>M</days>M</invoke>
//	M</tool_call>
var minimaxM3 = register(&dialect{
	name:     "minimax-m3",
	markers:  []string{minimaxMark},
	triggers: []string{minimaxMark + "<tool_call>"},
	calls:    func(r *reply, i int) bool { return m3Calls.read(r, r.space(i+len(minimaxMark+"<tool_call>"))) },
})

var m3Calls = &block{
	header: func(r *reply, i int) (h callHeader, ok bool) {
		const call = minimaxMark + `<invoke name="`
		if !r.has(i, call) {
			return h, false
		}
		h.name, i, ok = r.name(i+len(call), `"`)
		h.next = i + len(`">`)
		return h, ok && r.has(i, `">`)
	},
	arguments: func(r *reply, h *callHeader) (int, bool) {
		return 0, r.m3Members(r.tools.parameters(h.name), "/invoke", 0)
	},
	close: minimaxMark + "</tool_call>",
}

// m3Tag reads a tag at position i and returns what is between its angle brackets.
func (r *reply) m3Tag(i int) (tag string, next int, ok bool) {
	if !r.has(i, minimaxMark+"<") {
		return "", i, false
	}
	tag, i, ok = r.name(i+len(minimaxMark)+1, ">")
	return tag, i + 1, ok
}

// maxM3Depth bounds values within values.
const maxM3Depth = 32

// m3Members writes the tags up to the closing one as an object. It returns false if the reply was cut off.
func (r *reply) m3Members(s schema, closing string, depth int) bool {
	return r.m3Tags("{}", closing, depth, func(tag string) (key string, value schema, ok bool) {
		return quoteJSON(tag) + ": ", s.property(tag), tag[0] != '/'
	})
}

// m3Elements writes item tags up to the closing one as an array.
func (r *reply) m3Elements(s schema, closing string, depth int) bool {
	return r.m3Tags("[]", closing, depth, func(tag string) (key string, value schema, ok bool) {
		return "", s.element(), tag == "item"
	})
}

// m3Tags writes tags up to the closing one between two brackets. part says whether a tag belongs there, and what key is
// written before its value.
func (r *reply) m3Tags(brackets, closing string, depth int, part func(tag string) (key string, value schema, ok bool)) bool {
	before, after := brackets[:1], brackets
	for {
		i := r.space(0)
		tag, next, ok := r.m3Tag(i)
		if !ok && r.atEnd(i) && !r.complete {
			r.skip(CallArguments, i)
			return false
		}
		var key string
		var value schema
		if ok {
			key, value, ok = part(tag)
		}
		if !ok {
			if tag == closing {
				r.skip(CallArguments, next)
			}
			r.write(CallArguments, after)
			return true
		}
		r.skip(CallArguments, next)
		r.write(CallArguments, before+key)
		if !r.m3Value(value, "/"+tag, depth+1) {
			return false
		}
		before, after = ", ", brackets[1:]
	}
}

// m3Value writes what is between a tag and its closing one: tags, or the text of a scalar.
func (r *reply) m3Value(s schema, closing string, depth int) bool {
	allowed := s.types()
	i := r.space(0)
	tag, _, ok := r.m3Tag(i)
	switch {
	case !ok || tag[0] == '/' || depth > maxM3Depth:
	case tag == "item" && (allowed&objectType == 0 || s.property("item").at == nil):
		return r.m3Elements(s, closing, depth)
	default:
		return r.m3Members(s, closing, depth)
	}
	if ok && tag == closing && allowed&stringType == 0 && allowed&(objectType|arrayType) != 0 {
		if allowed&arrayType != 0 {
			return r.m3Elements(s, closing, depth)
		}
		return r.m3Members(s, closing, depth)
	}
	return r.m3Scalar(allowed, closing)
}

// m3Scalar writes the text up to the closing tag, or up to any that ends something around it.
func (r *reply) m3Scalar(allowed types, closing string) bool {
	end := minimaxMark + "<" + closing + ">"
	asText := allowed == stringType
	if asText {
		r.write(CallArguments, `"`)
	}
	for i := 0; ; {
		closed := r.has(i, end)
		if !closed && !r.atEnd(i) && !r.has(i, minimaxMark+"</") {
			if asText {
				r.escape()
			} else {
				i++
			}
			continue
		}
		if r.atEnd(i) && !r.complete {
			r.show(CallArguments, i)
			return false
		}
		text := r.text(0, i)
		if closed {
			i += len(end)
		}
		r.skip(CallArguments, i)
		if asText {
			r.write(CallArguments, `"`)
		} else {
			r.write(CallArguments, jsonValue(text, allowed))
		}
		return true
	}
}
