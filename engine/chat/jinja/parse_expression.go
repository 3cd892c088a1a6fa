package jinja

import (
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// tupleRules say where a tuple without parentheses may stand.
type tupleRules struct {
	conditionals bool   // whether its elements may be inline ifs
	parentheses  bool   // whether parentheses are around it, so that it may be empty
	end          string // a word that ends it
}

// tuple parses one expression, or several separated by commas.
func (p *parser) tuple(rules tupleRules) (expression, error) {
	var items []expression
	isTuple := false
	for !p.tupleEnds(rules.end) {
		item, err := p.element(rules.conditionals)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
		if !p.skipOp(",") {
			break
		}
		isTuple = true
	}
	if !isTuple && len(items) == 1 {
		return items[0], nil
	}
	if len(items) == 0 && !rules.parentheses {
		return nil, p.unexpected("an expression")
	}
	return &tupleLiteral{items}, nil
}

func (p *parser) tupleEnds(end string) bool {
	switch t := p.peek(); t.kind {
	case tokenVariableEnd, tokenBlockEnd:
		return true
	case tokenOperator:
		return t.text == ")"
	case tokenName:
		return end != "" && t.text == end
	}
	return false
}

func (p *parser) element(conditionals bool) (expression, error) {
	if conditionals {
		return p.expression()
	}
	return p.or()
}

// expression parses an expression with inline ifs.
func (p *parser) expression() (expression, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	unknown := len(p.unknown)
	value, err := p.or()
	if p.isWord("if") { // what stands before it may never be reached
		p.unknown = p.unknown[:unknown]
	}
	for chain := 0; err == nil && p.isWord("if"); chain++ {
		if chain > maxChain {
			return nil, p.errorf("more than %d inline ifs", maxChain)
		}
		value, err = p.conditionalOf(value)
	}
	return value, err
}

func (p *parser) conditionalOf(then expression) (expression, error) {
	node := &conditional{then: then, line: p.take().line}
	p.conditional++
	defer func() { p.conditional-- }()
	var err error
	if node.condition, err = p.or(); err != nil {
		return nil, err
	}
	if p.skipWord("else") {
		node.otherwise, err = p.expression()
	}
	return node, err
}

func (p *parser) or() (expression, error) {
	return p.chain(p.and, func(left, right expression, _ token) expression { return &logical{"or", left, right} }, "or")
}

func (p *parser) and() (expression, error) {
	return p.chain(p.not, func(left, right expression, _ token) expression { return &logical{"and", left, right} }, "and")
}

// chain parses operands joined by operators of one precedence, grouping from the left.
func (p *parser) chain(operand func() (expression, error), join func(left, right expression, op token) expression, ops ...string) (expression, error) {
	left, err := operand()
	for n := 0; err == nil; n++ {
		op := p.peek()
		if op.kind != tokenOperator && op.kind != tokenName || !slices.Contains(ops, op.text) {
			return left, nil
		}
		if n > maxChain {
			return nil, p.errorf("more than %d operators in a row", maxChain)
		}
		p.take()
		var right expression
		if right, err = operand(); err == nil {
			left = join(left, right, op)
		}
	}
	return nil, err
}

func (p *parser) not() (expression, error) {
	if !p.isWord("not") {
		return p.compare()
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	line := p.take().line
	operand, err := p.not()
	return &unary{"not", operand, line}, err
}

var comparisons = []string{"==", "!=", "<", "<=", ">", ">="}

func (p *parser) compare() (expression, error) {
	first, err := p.sum()
	if err != nil {
		return nil, err
	}
	node := &comparison{first: first, line: p.peek().line}
	for {
		op := p.peek()
		switch {
		case op.kind == tokenOperator && slices.Contains(comparisons, op.text), p.isWord("in"):
			p.take()
		case p.isWord("not") && p.look().kind == tokenName && p.look().text == "in":
			p.take()
			p.take()
			op.text = "not in"
		default:
			if len(node.ops) == 0 {
				return first, nil
			}
			return node, nil
		}
		operand, err := p.sum()
		if err != nil {
			return nil, err
		}
		node.ops = append(node.ops, op.text)
		node.rest = append(node.rest, operand)
	}
}

func newBinary(left, right expression, op token) expression {
	return &binary{op.text, left, right, op.line}
}

func (p *parser) sum() (expression, error) { return p.chain(p.concat, newBinary, "+", "-") }

func (p *parser) concat() (expression, error) {
	first, err := p.product()
	if err != nil || !p.isOp("~") {
		return first, err
	}
	node := &concatenation{parts: []expression{first}, line: p.peek().line}
	for p.skipOp("~") {
		part, err := p.product()
		if err != nil {
			return nil, err
		}
		node.parts = append(node.parts, part)
	}
	return node, nil
}

func (p *parser) product() (expression, error) {
	return p.chain(p.power, newBinary, "*", "/", "//", "%")
}

// power groups from the left, unlike Python's.
func (p *parser) power() (expression, error) {
	return p.chain(func() (expression, error) { return p.unary(true) }, newBinary, "**")
}

// unary parses signs, a primary, what follows it, and filters and tests; the sign binds tighter than those.
func (p *parser) unary(filters bool) (expression, error) {
	var node expression
	var err error
	if p.isOp("-") || p.isOp("+") {
		if err := p.enter(); err != nil {
			return nil, err
		}
		sign := p.take()
		node, err = p.unary(false)
		p.leave()
		node = &unary{sign.text, node, sign.line}
	} else {
		node, err = p.primary()
	}
	if err == nil {
		node, err = p.postfix(node)
	}
	if err == nil && filters {
		node, err = p.filters(node)
	}
	return node, err
}

func (p *parser) primary() (expression, error) {
	t := p.peek()
	switch t.kind {
	case tokenName:
		p.take()
		switch t.text {
		case "true", "True":
			return &constant{Bool(true)}, nil
		case "false", "False":
			return &constant{Bool(false)}, nil
		case "none", "None":
			return &constant{None{}}, nil
		}
		p.mention(t.text)
		return &name{t.text, t.line}, nil
	case tokenString:
		var text strings.Builder
		for p.peek().kind == tokenString { // adjacent strings are one
			text.WriteString(p.take().text)
		}
		return &constant{Trusted(text.String())}, nil
	case tokenInteger, tokenFloat:
		return p.number(p.take())
	case tokenOperator:
		switch t.text {
		case "(":
			return p.parenthesised()
		case "[":
			p.take()
			items, err := p.items("]")
			return &listLiteral{items}, err
		case "{":
			return p.dict()
		}
	}
	return nil, p.unexpected("an expression")
}

func (p *parser) number(t token) (expression, error) {
	if t.kind == tokenFloat {
		f, err := strconv.ParseFloat(t.text, 64)
		if err != nil && f == 0 {
			return nil, p.errorf("%q is not a number", t.text)
		}
		return &constant{float(f)}, nil
	}
	if len(t.text) > maxIntBits {
		return nil, p.errorf("an integer of %d digits", len(t.text))
	}
	n, ok := new(big.Int).SetString(t.text, 0)
	if !ok {
		return nil, p.errorf("%q is not a number", t.text)
	}
	v, err := newInteger(n)
	if err != nil {
		return nil, p.errorf("%w", err)
	}
	return &constant{v}, nil
}

func (p *parser) parenthesised() (expression, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	p.take()
	value, err := p.tuple(tupleRules{conditionals: true, parentheses: true})
	if err != nil {
		return nil, err
	}
	return value, p.expectOp(")")
}

// items parses expressions separated by commas, up to the closing bracket, which it takes.
func (p *parser) items(end string) ([]expression, error) {
	var items []expression
	for !p.skipOp(end) {
		if len(items) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
			if p.skipOp(end) {
				break
			}
		}
		item, err := p.expression()
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

func (p *parser) dict() (expression, error) {
	node := &dictLiteral{line: p.take().line}
	for !p.skipOp("}") {
		if len(node.keys) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
			if p.skipOp("}") {
				break
			}
		}
		k, err := p.expression()
		if err != nil {
			return nil, err
		}
		if err := p.expectOp(":"); err != nil {
			return nil, err
		}
		v, err := p.expression()
		if err != nil {
			return nil, err
		}
		node.keys, node.values = append(node.keys, k), append(node.values, v)
	}
	return node, nil
}

// postfix parses attributes, subscripts and calls after a value.
func (p *parser) postfix(node expression) (expression, error) {
	var err error
	for chain := 0; err == nil; chain++ {
		switch {
		case chain > maxChain:
			return nil, p.errorf("more than %d attributes, subscripts and calls in a row", maxChain)
		case p.isOp("."):
			node, err = p.attribute(node)
		case p.isOp("["):
			node, err = p.subscript(node)
		case p.isOp("("):
			node, err = p.call(node)
		default:
			return node, nil
		}
	}
	return nil, err
}

// filters parses filters, tests and calls of their results.
func (p *parser) filters(node expression) (expression, error) {
	var err error
	for chain := 0; err == nil; chain++ {
		switch {
		case chain > maxChain:
			return nil, p.errorf("more than %d filters in a row", maxChain)
		case p.isOp("|"):
			node, err = p.filter(node)
		case p.isWord("is"):
			node, err = p.test(node)
		case p.isOp("("):
			node, err = p.call(node)
		default:
			return node, nil
		}
	}
	return nil, err
}

func (p *parser) attribute(object expression) (expression, error) {
	line := p.take().line
	switch t := p.take(); t.kind {
	case tokenName:
		return &attribute{object, t.text, line}, nil
	case tokenInteger:
		index, err := p.number(t)
		return &subscript{object, index, line}, err
	}
	return nil, p.errorf("a name or a number must follow '.'")
}

func (p *parser) subscript(object expression) (expression, error) {
	line := p.take().line
	var indexes []expression
	for !p.isOp("]") {
		if len(indexes) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
		}
		if p.isOp(":") {
			return p.slice(object, nil, line)
		}
		index, err := p.expression()
		if err != nil {
			return nil, err
		}
		if p.isOp(":") && len(indexes) == 0 {
			return p.slice(object, index, line)
		}
		indexes = append(indexes, index)
	}
	p.take()
	if len(indexes) == 1 {
		return &subscript{object, indexes[0], line}, nil
	}
	return &subscript{object, &tupleLiteral{indexes}, line}, nil
}

// slice parses the rest of object[start:stop:step].
func (p *parser) slice(object, start expression, line int) (expression, error) {
	node := &slicing{object: object, start: start, line: line}
	p.take()
	for _, part := range []*expression{&node.stop, &node.step} {
		if !p.isOp("]") && !p.isOp(":") {
			value, err := p.expression()
			if err != nil {
				return nil, err
			}
			*part = value
		}
		if !p.skipOp(":") {
			break
		}
	}
	return node, p.expectOp("]")
}

func (p *parser) call(callee expression) (expression, error) {
	line := p.peek().line
	args, err := p.arguments()
	return &call{callee, args, line}, err
}

// arguments parses a call's parentheses: positional arguments, then keyword ones, then *list and **dict.
func (p *parser) arguments() (argumentList, error) {
	var a argumentList
	if err := p.expectOp("("); err != nil {
		return a, err
	}
	for first := true; !p.skipOp(")"); first = false {
		if !first {
			if err := p.expectOp(","); err != nil {
				return a, err
			}
			if p.skipOp(")") {
				break
			}
		}
		if err := p.argument(&a); err != nil {
			return a, err
		}
	}
	return a, nil
}

func (p *parser) argument(a *argumentList) error {
	var err error
	switch {
	case p.isOp("*") && a.extra == nil && a.extraByName == nil:
		p.take()
		a.extra, err = p.expression()
	case p.isOp("**") && a.extraByName == nil:
		p.take()
		a.extraByName, err = p.expression()
	case p.peek().kind == tokenName && p.look().kind == tokenOperator && p.look().text == "=" && a.extraByName == nil:
		word := p.take()
		p.take()
		if len(a.names) >= maxNamed {
			return p.errorf("more than %d keyword arguments", maxNamed)
		}
		if slices.Contains(a.names, word.text) {
			return p.errorf("repeated argument '%s'", word.text)
		}
		var value expression
		value, err = p.expression()
		a.names, a.keywords = append(a.names, word.text), append(a.keywords, value)
	case a.extra == nil && a.extraByName == nil && len(a.names) == 0:
		var value expression
		value, err = p.expression()
		a.positional = append(a.positional, value)
	default:
		return p.errorf("a positional argument cannot follow keyword arguments")
	}
	return err
}

func (p *parser) filter(input expression) (expression, error) {
	p.take()
	return p.filterName(input)
}

func (p *parser) filterName(input expression) (expression, error) {
	word, err := p.dottedName()
	if err != nil {
		return nil, err
	}
	node := &filterCall{input: input, name: word.text, filter: filterNamed(word.text), line: word.line}
	if node.filter == nil {
		p.missing(word.line, unknownError{"filter", word.text})
	}
	if p.isOp("(") {
		node.args, err = p.arguments()
	}
	return node, err
}

func (p *parser) test(input expression) (expression, error) {
	p.take()
	negated := p.skipWord("not")
	word, err := p.dottedName()
	if err != nil {
		return nil, err
	}
	node := &testCall{input: input, name: word.text, test: testNamed(word.text), line: word.line}
	if node.test == nil {
		p.missing(word.line, unknownError{"test", word.text})
	}
	switch {
	case p.isWord("is"):
		return nil, p.errorf("tests cannot be chained with 'is'")
	case p.isOp("("):
		node.args, err = p.arguments()
	case p.startsTestArgument():
		var arg expression
		if arg, err = p.primary(); err == nil {
			arg, err = p.postfix(arg)
		}
		node.args.positional = []expression{arg}
	}
	if err != nil {
		return nil, err
	}
	if negated {
		return &unary{"not", node, word.line}, nil
	}
	return node, nil
}

// startsTestArgument reports whether the next token begins a test's argument written without parentheses.
func (p *parser) startsTestArgument() bool {
	switch t := p.peek(); t.kind {
	case tokenString, tokenInteger, tokenFloat:
		return true
	case tokenName:
		switch t.text {
		case "else", "or", "and", "if", "in", "not", "recursive":
			return false
		}
		return true
	case tokenOperator:
		return t.text == "[" || t.text == "{"
	}
	return false
}

func (p *parser) dottedName() (token, error) {
	word, err := p.expect(tokenName)
	for n := 0; err == nil && p.skipOp("."); n++ {
		if n > maxChain {
			return token{}, p.errorf("more than %d names in a row", maxChain)
		}
		var part token
		part, err = p.expect(tokenName)
		word.text += "." + part.text
	}
	return word, err
}

// unknownError is a filter or test that does not exist.
type unknownError struct{ kind, name string }

// missing notes a filter or test that does not exist where it will certainly be reached.
func (p *parser) missing(line int, err unknownError) {
	if p.conditional == 0 {
		p.unknown = append(p.unknown, &Error{line, err})
	}
}

func (e unknownError) Error() string { return "no " + e.kind + " named '" + e.name + "'" }
