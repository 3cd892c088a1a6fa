package jinja

// expression is a node that has a value.
type expression interface {
	eval(st *state, sc *scope) (Value, error)
}

// statement is a node that writes output, binds names or steers a loop.
type statement interface {
	exec(st *state, sc *scope, out *textBuilder) (flow, error)
}

// flow says how execution goes on after a statement.
type flow int

const (
	flowNext flow = iota
	flowBreak
	flowContinue
)

// Expressions.
type (
	constant struct{ value Value }
	name     struct {
		name string
		line int
	}
	listLiteral  struct{ items []expression }
	tupleLiteral struct{ items []expression }
	dictLiteral  struct {
		keys, values []expression
		line         int
	}
	attribute struct {
		object expression
		name   string
		line   int
	}
	subscript struct {
		object, index expression
		line          int
	}
	slicing struct {
		object            expression
		start, stop, step expression // nil where left out
		line              int
	}
	call struct {
		callee expression
		args   argumentList
		line   int
	}
	filterCall struct {
		input  expression // nil inside a filter or set block: the block's text
		name   string
		filter filter // nil when unknown, an error once reached
		args   argumentList
		line   int
	}
	testCall struct {
		input expression
		name  string
		test  test
		args  argumentList
		line  int
	}
	unary struct {
		op      string // "-", "+" or "not"
		operand expression
		line    int
	}
	binary struct {
		op          string
		left, right expression
		line        int
	}
	logical struct { // and, or: the value of one operand
		op          string
		left, right expression
	}
	concatenation struct {
		parts []expression
		line  int
	}
	comparison struct { // first op0 rest0 op1 rest1 …, each operand evaluated once
		first expression
		ops   []string
		rest  []expression
		line  int
	}
	conditional struct {
		condition, then, otherwise expression // otherwise nil where left out
		line                       int
	}
)

// argumentList is what stands between the parentheses of a call.
type argumentList struct {
	positional  []expression
	names       []string // of the keyword arguments
	keywords    []expression
	extra       expression // *extra
	extraByName expression // **extraByName
}

// Statements.
type (
	data   struct{ text Text }
	output struct {
		value expression
		line  int
	}
	ifBlock struct {
		conditions []expression
		bodies     [][]statement
		otherwise  []statement
		line       int
	}
	forLoop struct {
		target    target
		iterable  expression
		filter    expression // nil where left out
		body      []statement
		otherwise []statement
		recursive bool
		line      int
	}
	assignment struct {
		target target
		value  expression
		line   int
	}
	blockAssignment struct {
		target target
		filter expression // applied to the block's text; nil where left out
		body   []statement
		line   int
	}
	withBlock struct {
		targets []target
		values  []expression
		body    []statement
		line    int
	}
	filterBlock struct {
		filter expression
		body   []statement
		line   int
	}
	scopeBlock struct{ body []statement } // generation, and other blocks that only have a scope of their own
	callBlock  struct {
		call   *call
		caller *macroNode
		line   int
	}
	macroNode struct {
		name       string
		parameters []string
		defaults   []expression // of the last parameters
		body       []statement
		line       int
		// What the body mentions decides what a call may pass.
		usesCaller, usesVarargs, usesKwargs bool
	}
	loopControl struct{ flow flow }
)

// target is what a value is assigned to.
type target interface {
	assign(st *state, sc *scope, v Value) error
}

type (
	nameTarget      struct{ name string }
	namespaceTarget struct{ name, attribute string }
	tupleTarget     struct{ targets []target }
)
