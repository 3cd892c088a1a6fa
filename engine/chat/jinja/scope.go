package jinja

import "time"

// state is one rendering.
type state struct {
	meter
	vars *Dict
	now  time.Time
}

// scope holds the names set in one block: the template, a loop's iteration, a macro's call. Names are looked up from the
// inside out, and set in the innermost scope. Blocks have few names, so a list beats a map.
type scope struct {
	names  []string
	values []Value
	parent *scope
	// captured says that a macro was defined in here and may outlive the block, so that the scope cannot be reused.
	captured bool
}

func (sc *scope) set(name string, v Value) {
	for i, n := range sc.names {
		if n == name {
			sc.values[i] = v
			return
		}
	}
	sc.names = append(sc.names, name)
	sc.values = append(sc.values, v)
}

// lookup finds a name in the scopes, then among the variables, then in the language. A name that is nowhere is an
// undefined value.
func (st *state) lookup(sc *scope, name string) Value {
	for ; sc != nil; sc = sc.parent {
		st.note(len(sc.names) / namesPerStep)
		for i, n := range sc.names {
			if n == name {
				return sc.values[i]
			}
		}
	}
	if st.vars != nil {
		if v, ok := st.vars.Get(name); ok {
			return v
		}
	}
	if v := global(name); v != nil {
		return v
	}
	return undefined{name: name}
}

// capture keeps the scopes around a macro from being reused.
func (sc *scope) capture() {
	for ; sc != nil && !sc.captured; sc = sc.parent {
		sc.captured = true
	}
}
