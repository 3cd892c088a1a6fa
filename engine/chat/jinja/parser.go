package jinja

import (
	"fmt"
	"slices"
)

// Limits of the parser's own recursion and of the loops it builds left-deep trees in.
const (
	maxSourceBytes = 1 << 20
	maxNesting     = 300
	maxChain       = 1000
	maxNamed       = 255 // parameters of a macro, keyword arguments of a call
)

// parser turns tokens into nodes, by recursive descent over the grammar of Jinja2.
type parser struct {
	tokens []token
	at     int
	depth  int

	// conditional counts the if blocks and inline ifs around the current position. A filter or test that does not exist
	// makes the template invalid outside of them, and is an error inside only when it is reached.
	conditional int
	unknown     []*Error
	// macros are the macro bodies being parsed, which learn from the names that they mention what they can be passed.
	macros []*macroNode
	loops  int // loop bodies around the current position within the macro
}

func (p *parser) peek() token { return p.tokens[p.at] }

func (p *parser) take() token {
	t := p.tokens[p.at]
	if t.kind != tokenEOF {
		p.at++
	}
	return t
}

func (p *parser) look() token { return p.tokens[min(p.at+1, len(p.tokens)-1)] }

func (p *parser) is(kind tokenKind, text string) bool {
	t := p.peek()
	return t.kind == kind && t.text == text
}

func (p *parser) isOp(op string) bool   { return p.is(tokenOperator, op) }
func (p *parser) isWord(w string) bool  { return p.is(tokenName, w) }
func (p *parser) skipOp(op string) bool { return p.skip(tokenOperator, op) }

func (p *parser) skipWord(w string) bool { return p.skip(tokenName, w) }

func (p *parser) skip(kind tokenKind, text string) bool {
	if p.is(kind, text) {
		p.at++
		return true
	}
	return false
}

func (p *parser) errorf(format string, args ...any) error {
	return &Error{Line: p.peek().line, Err: fmt.Errorf(format, args...)}
}

func (p *parser) unexpected(want string) error {
	return p.errorf("unexpected %s, want %s", p.peek().describe(), want)
}

func (p *parser) expect(kind tokenKind) (token, error) {
	if p.peek().kind != kind {
		return token{}, p.unexpected(kind.String())
	}
	return p.take(), nil
}

func (p *parser) expectOp(op string) error {
	if !p.skipOp(op) {
		return p.unexpected("'" + op + "'")
	}
	return nil
}

func (p *parser) expectWord(w string) error {
	if !p.skipWord(w) {
		return p.unexpected("'" + w + "'")
	}
	return nil
}

func (p *parser) enter() error {
	if p.depth++; p.depth > maxNesting {
		return p.errorf("nested more than %d deep", maxNesting)
	}
	return nil
}

func (p *parser) leave() { p.depth-- }

// body parses statements up to a tag that begins with one of the words in end, which stays the next token. Without end
// words it parses to the end of the template.
func (p *parser) body(end ...string) ([]statement, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	var body []statement
	for {
		switch t := p.take(); t.kind {
		case tokenEOF:
			if len(end) > 0 {
				return nil, p.errorf("unexpected end of template, looking for %v", end)
			}
			return body, nil
		case tokenData:
			body = append(body, &data{Trusted(t.text)})
		case tokenVariableBegin:
			value, err := p.tuple(tupleRules{conditionals: true})
			if err != nil {
				return nil, err
			}
			if _, err := p.expect(tokenVariableEnd); err != nil {
				return nil, err
			}
			body = append(body, &output{value, t.line})
		case tokenBlockBegin:
			if word := p.peek(); word.kind == tokenName && slices.Contains(end, word.text) {
				return body, nil
			}
			s, err := p.statement()
			if err != nil {
				return nil, err
			}
			if _, err := p.expect(tokenBlockEnd); err != nil {
				return nil, err
			}
			body = append(body, s)
		}
	}
}

// block parses the rest of a tag and the statements after it, up to a tag that begins with one of the words in end.
func (p *parser) block(end ...string) ([]statement, error) {
	p.skipOp(":") // Python habits are allowed
	if _, err := p.expect(tokenBlockEnd); err != nil {
		return nil, err
	}
	return p.body(end...)
}

// blockTo is block for a single end word, which it takes.
func (p *parser) blockTo(end string) ([]statement, error) {
	body, err := p.block(end)
	if err == nil {
		p.take()
	}
	return body, err
}

func (p *parser) statement() (statement, error) {
	word, err := p.expect(tokenName)
	if err != nil {
		return nil, err
	}
	switch word.text {
	case "if":
		return p.ifBlock(word.line)
	case "for":
		return p.forLoop(word.line)
	case "set":
		return p.set(word.line)
	case "macro":
		return p.macro(word.line)
	case "call":
		return p.callBlock(word.line)
	case "filter":
		return p.filterBlock(word.line)
	case "with":
		return p.with(word.line)
	case "generation":
		body, err := p.blockTo("endgeneration")
		return &scopeBlock{body}, err
	case "break", "continue":
		if p.loops == 0 {
			return nil, p.errorf("'%s' outside a loop", word.text)
		}
		if word.text == "break" {
			return &loopControl{flowBreak}, nil
		}
		return &loopControl{flowContinue}, nil
	case "block", "extends", "include", "import", "from", "print", "autoescape", "do", "trans":
		return nil, p.errorf("the tag '%s' is not supported", word.text)
	}
	return nil, p.errorf("unknown tag '%s'", word.text)
}

func (p *parser) ifBlock(line int) (statement, error) {
	p.conditional++
	defer func() { p.conditional-- }()
	node := &ifBlock{line: line}
	for {
		condition, err := p.tuple(tupleRules{})
		if err != nil {
			return nil, err
		}
		body, err := p.block("elif", "else", "endif")
		if err != nil {
			return nil, err
		}
		node.conditions = append(node.conditions, condition)
		node.bodies = append(node.bodies, body)
		switch p.take().text {
		case "elif":
			continue
		case "else":
			node.otherwise, err = p.blockTo("endif")
		}
		return node, err
	}
}

func (p *parser) forLoop(line int) (statement, error) {
	node := &forLoop{line: line}
	var err error
	if node.target, err = p.target(false, "in"); err != nil {
		return nil, err
	}
	if err = p.expectWord("in"); err != nil {
		return nil, err
	}
	if node.iterable, err = p.tuple(tupleRules{end: "recursive"}); err != nil {
		return nil, err
	}
	if p.skipWord("if") {
		if node.filter, err = p.expression(); err != nil {
			return nil, err
		}
	}
	node.recursive = p.skipWord("recursive")
	p.loops++
	node.body, err = p.block("endfor", "else")
	p.loops--
	if err != nil {
		return nil, err
	}
	if p.take().text == "else" {
		node.otherwise, err = p.blockTo("endfor")
	}
	return node, err
}

func (p *parser) set(line int) (statement, error) {
	to, err := p.target(true, "")
	if err != nil {
		return nil, err
	}
	if p.skipOp("=") {
		value, err := p.tuple(tupleRules{conditionals: true})
		return &assignment{to, value, line}, err
	}
	node := &blockAssignment{target: to, line: line}
	if node.filter, err = p.blockFilters(nil); err != nil {
		return nil, err
	}
	node.body, err = p.scoped("endset")
	return node, err
}

// scoped parses a block whose text is caught, so that a loop control cannot leave it.
func (p *parser) scoped(end string) ([]statement, error) {
	loops := p.loops
	p.loops = 0
	body, err := p.blockTo(end)
	p.loops = loops
	return body, err
}

func (p *parser) filterBlock(line int) (statement, error) {
	node := &filterBlock{line: line}
	first, err := p.filterName(nil)
	if err != nil {
		return nil, err
	}
	if node.filter, err = p.blockFilters(first); err != nil {
		return nil, err
	}
	node.body, err = p.scoped("endfilter")
	return node, err
}

// blockFilters parses the filters that follow in the tag of a block; the result is first when there are none.
func (p *parser) blockFilters(first expression) (expression, error) {
	chain := first
	for n := 0; p.isOp("|"); n++ {
		if n > maxChain {
			return nil, p.errorf("more than %d filters in a row", maxChain)
		}
		var err error
		if chain, err = p.filter(chain); err != nil {
			return nil, err
		}
	}
	return chain, nil
}

func (p *parser) with(line int) (statement, error) {
	node := &withBlock{line: line}
	for p.peek().kind != tokenBlockEnd {
		if len(node.targets) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
		}
		to, err := p.target(false, "")
		if err != nil {
			return nil, err
		}
		if err := p.expectOp("="); err != nil {
			return nil, err
		}
		value, err := p.expression()
		if err != nil {
			return nil, err
		}
		node.targets = append(node.targets, to)
		node.values = append(node.values, value)
	}
	body, err := p.blockTo("endwith")
	node.body = body
	return node, err
}

func (p *parser) macro(line int) (statement, error) {
	word, err := p.expect(tokenName)
	if err != nil {
		return nil, err
	}
	node := &macroNode{name: word.text, line: line}
	if err := p.signature(node); err != nil {
		return nil, err
	}
	return node, p.macroBody(node, "endmacro")
}

func (p *parser) callBlock(line int) (statement, error) {
	caller := &macroNode{name: "caller", line: line}
	if p.isOp("(") {
		if err := p.signature(caller); err != nil {
			return nil, err
		}
	}
	value, err := p.expression()
	if err != nil {
		return nil, err
	}
	called, ok := value.(*call)
	if !ok {
		return nil, p.errorf("a call block must call something")
	}
	return &callBlock{called, caller, line}, p.macroBody(caller, "endcall")
}

func (p *parser) macroBody(node *macroNode, end string) error {
	p.macros = append(p.macros, node)
	body, err := p.scoped(end)
	p.macros = p.macros[:len(p.macros)-1]
	node.body = body
	return err
}

// mention notes that a name is read, for the macros around it.
func (p *parser) mention(name string) {
	for _, m := range p.macros {
		switch name {
		case "caller":
			m.usesCaller = true
		case "varargs":
			m.usesVarargs = true
		case "kwargs":
			m.usesKwargs = true
		}
	}
}

func (p *parser) signature(node *macroNode) error {
	if err := p.expectOp("("); err != nil {
		return err
	}
	for !p.skipOp(")") {
		if len(node.parameters) > 0 {
			if err := p.expectOp(","); err != nil {
				return err
			}
		}
		word, err := p.expect(tokenName)
		if err != nil {
			return err
		}
		if len(node.parameters) >= maxNamed {
			return p.errorf("more than %d parameters", maxNamed)
		}
		if slices.Contains(node.parameters, word.text) {
			return p.errorf("duplicate parameter '%s'", word.text)
		}
		node.parameters = append(node.parameters, word.text)
		if p.skipOp("=") {
			value, err := p.expression()
			if err != nil {
				return err
			}
			node.defaults = append(node.defaults, value)
		} else if word.text == "caller" {
			return p.errorf("the parameter 'caller' needs a default")
		} else if len(node.defaults) > 0 {
			return p.errorf("parameter '%s' without default follows one with a default", word.text)
		}
	}
	return nil
}

// target parses what is assigned to: a name, a namespace attribute where allowed, or a tuple of them that ends at the
// word in end.
func (p *parser) target(namespaces bool, end string) (target, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	var parts []target
	for {
		if end != "" && p.isWord(end) || p.isOp(")") || p.peek().kind == tokenBlockEnd {
			break
		}
		part, err := p.singleTarget(namespaces)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
		if !p.skipOp(",") {
			if len(parts) == 1 {
				return part, nil
			}
			break
		}
	}
	if len(parts) == 0 {
		return nil, p.unexpected("a name")
	}
	return &tupleTarget{parts}, nil
}

func (p *parser) singleTarget(namespaces bool) (target, error) {
	if p.skipOp("(") {
		part, err := p.target(namespaces, "")
		if err != nil {
			return nil, err
		}
		return part, p.expectOp(")")
	}
	word, err := p.expect(tokenName)
	if err != nil {
		return nil, err
	}
	switch word.text {
	case "true", "True", "false", "False", "none", "None":
		return nil, p.errorf("cannot assign to '%s'", word.text)
	}
	if namespaces && p.skipOp(".") {
		attr, err := p.expect(tokenName)
		return &namespaceTarget{word.text, attr.text}, err
	}
	return &nameTarget{word.text}, nil
}
