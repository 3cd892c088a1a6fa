package jinja

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// sequenceFilter returns a filter on the elements of a value, nil when there is none of that name.
func sequenceFilter(name string) filter {
	switch name {
	case "list":
		return func(st *state, v Value, _ *arguments) (Value, error) {
			items, err := st.collect(v)
			return &List{items: items}, err
		}
	case "items":
		return filterItems
	case "first", "last":
		return func(st *state, v Value, a *arguments) (Value, error) { return st.endOf(name, v, a) }
	case "join":
		return filterJoin
	case "map":
		return filterMap
	case "select", "reject", "selectattr", "rejectattr":
		return func(st *state, v Value, a *arguments) (Value, error) { return st.selectItems(name, v, a) }
	case "sort":
		return filterSort
	case "dictsort":
		return filterDictSort
	case "unique":
		return filterUnique
	case "groupby":
		return filterGroupBy
	case "min", "max":
		return func(st *state, v Value, a *arguments) (Value, error) { return st.extreme(name, v, a) }
	case "sum":
		return filterSum
	case "reverse":
		return filterReverse
	case "batch":
		return filterBatch
	case "slice":
		return filterSlice
	}
	return nil
}

func filterItems(st *state, v Value, a *arguments) (Value, error) {
	if _, err := a.bind("items", 0); err != nil || isUndefined(v) {
		return &generator{}, err
	}
	d, ok := v.(*Dict)
	if !ok {
		return nil, errors.New("can only get item pairs from a mapping")
	}
	pairs, err := st.dictView(d, "items")
	if err != nil {
		return nil, err
	}
	return &generator{items: pairs.(*view).items}, nil
}

// endOf is the first or the last element.
func (st *state) endOf(name string, v Value, a *arguments) (Value, error) {
	if _, err := a.bind(name, 0); err != nil {
		return nil, err
	}
	if _, lazy := v.(*generator); lazy && name == "last" {
		return nil, errors.New("'generator' object is not reversible")
	}
	it, err := iterate(v)
	if err != nil {
		return nil, err
	}
	found := Value(undefined{hint: "no " + name + " item, the sequence was empty"})
	for item, ok := it.next(); ok; item, ok = it.next() {
		if err := st.step(1); err != nil {
			return nil, err
		}
		if found = item; name == "first" {
			break
		}
	}
	return found, nil
}

func filterJoin(st *state, v Value, a *arguments) (Value, error) {
	bound, err := a.bind("join", 0, "d", "attribute")
	if err != nil {
		return nil, err
	}
	separator := Text{}
	if bound[0] != nil {
		if separator, err = st.str(bound[0]); err != nil {
			return nil, err
		}
	}
	items, err := st.collect(v)
	if err != nil {
		return nil, err
	}
	get := st.getter(bound[1], nil)
	b := textBuilder{meter: &st.meter}
	for i, item := range items {
		if item, err = get(item); err != nil {
			return nil, err
		}
		text, err := st.str(item)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b.write(separator)
		}
		b.write(text)
	}
	return b.text()
}

// filterMap applies a filter, or reads an attribute, of every element.
func filterMap(st *state, v Value, a *arguments) (Value, error) {
	transform, err := st.mapping(a)
	if err != nil {
		return nil, err
	}
	items, err := st.collect(v)
	if err != nil {
		return nil, err
	}
	for i, item := range items {
		if items[i], err = transform(item); err != nil {
			return nil, err
		}
	}
	return &generator{items: items}, nil
}

func (st *state) mapping(a *arguments) (func(Value) (Value, error), error) {
	if len(a.positional) == 0 {
		bound, err := a.bind("map", 0, "attribute", "default")
		if err != nil {
			return nil, err
		}
		if bound[0] == nil {
			return nil, errors.New("map requires a filter argument")
		}
		if absent(bound[1]) {
			bound[1] = nil
		}
		return st.getter(bound[0], bound[1]), nil
	}
	name, err := textArgument(a.positional[0], "name", Text{})
	if err != nil {
		return nil, err
	}
	f := filterNamed(name.s)
	if f == nil {
		return nil, unknownError{"filter", name.s}
	}
	rest := &arguments{a.positional[1:], a.names, a.keywords}
	return func(v Value) (Value, error) {
		if err := st.enter(); err != nil {
			return nil, err
		}
		defer func() { st.depth-- }()
		return f(st, v, rest)
	}, nil
}

// selectItems keeps the elements, or drops them, for which a test holds; without a test, which are true.
func (st *state) selectItems(name string, v Value, a *arguments) (Value, error) {
	rest := *a
	get := func(v Value) (Value, error) { return v, nil }
	if strings.HasSuffix(name, "attr") {
		if len(rest.positional) == 0 {
			return nil, errors.New("missing parameter for attribute name")
		}
		get = st.getter(rest.positional[0], nil)
		rest.positional = rest.positional[1:]
	}
	holds := func(v Value) (bool, error) { return truth(v), nil }
	if len(rest.positional) > 0 {
		test, err := textArgument(rest.positional[0], "test", Text{})
		if err != nil {
			return nil, err
		}
		t := testNamed(test.s)
		if t == nil {
			return nil, unknownError{"test", test.s}
		}
		rest.positional = rest.positional[1:]
		holds = func(v Value) (bool, error) { return t(st, v, &rest) }
	}
	items, err := st.collect(v)
	if err != nil {
		return nil, err
	}
	kept := &generator{}
	for _, item := range items {
		of, err := get(item)
		if err != nil {
			return nil, err
		}
		ok, err := holds(of)
		if err != nil {
			return nil, err
		}
		if ok == strings.HasPrefix(name, "select") {
			kept.items = append(kept.items, item)
		}
	}
	return kept, nil
}

func filterSort(st *state, v Value, a *arguments) (Value, error) {
	bound, err := a.bind("sort", 0, "reverse", "case_sensitive", "attribute")
	if err != nil {
		return nil, err
	}
	items, err := st.collect(v)
	if err != nil {
		return nil, err
	}
	paths := []Value{bound[2]}
	if t, ok := bound[2].(Text); ok {
		if err := st.elements(strings.Count(t.s, ",") + 1); err != nil {
			return nil, err
		}
		paths = paths[:0]
		for path := range strings.SplitSeq(t.s, ",") {
			paths = append(paths, Trusted(path))
		}
	}
	o := order{boolArgument(bound[0]), boolArgument(bound[1])}
	return st.sorted(items, st.multiGetter(paths, o.caseSensitive), o)
}

// multiGetter reads several attribute paths into a list, which is how sort compares: elements whose attributes are all
// missing are equal.
func (st *state) multiGetter(paths []Value, caseSensitive bool) func(Value) (Value, error) {
	return func(item Value) (Value, error) {
		keys := make([]Value, len(paths))
		for i, path := range paths {
			k, err := st.getter(path, nil)(item)
			if err != nil {
				return nil, err
			}
			if keys[i] = k; !caseSensitive {
				keys[i] = st.foldCase(k)
			}
		}
		return &tuple{keys}, st.elements(len(keys))
	}
}

// sorted sorts by a key of each element and returns a list.
func (st *state) sorted(items []Value, keyFor func(Value) (Value, error), o order) (*List, error) {
	type keyed struct{ item, key Value }
	all := make([]keyed, len(items))
	for i, item := range items {
		k, err := keyFor(item)
		if err != nil {
			return nil, err
		}
		all[i] = keyed{item, k}
	}
	if err := st.elements(2 * len(items)); err != nil {
		return nil, err
	}
	err := sortBy(&st.meter, all, func(k keyed) Value { return k.key }, o)
	list := &List{items: make([]Value, len(all))}
	for i, k := range all {
		list.items[i] = k.item
	}
	return list, err
}

func filterDictSort(st *state, v Value, a *arguments) (Value, error) {
	bound, err := a.bind("dictsort", 0, "case_sensitive", "by", "reverse")
	if err != nil {
		return nil, err
	}
	d, ok := v.(*Dict)
	if !ok {
		return nil, fmt.Errorf("dictsort needs a mapping, not %s", v.typeName())
	}
	by, err := textArgument(bound[1], "by", Trusted("key"))
	if err != nil {
		return nil, err
	}
	at := slices.Index([]string{"key", "value"}, by.s)
	if at < 0 {
		return nil, errors.New("you can only sort by either 'key' or 'value'")
	}
	pairs, err := st.dictView(d, "items")
	if err != nil {
		return nil, err
	}
	return st.sorted(pairs.(*view).items, st.getter(integer(at), nil), order{boolArgument(bound[2]), boolArgument(bound[0])})
}

func filterUnique(st *state, v Value, a *arguments) (Value, error) {
	bound, err := a.bind("unique", 0, "case_sensitive", "attribute")
	if err != nil {
		return nil, err
	}
	items, err := st.collect(v)
	if err != nil {
		return nil, err
	}
	get := st.getter(bound[1], nil)
	seen := map[key]bool{}
	out := &generator{}
	for _, item := range items {
		of, err := get(item)
		if err != nil {
			return nil, err
		}
		if !boolArgument(bound[0]) {
			of = st.foldCase(of)
		}
		k, err := st.key(of)
		if err != nil {
			return nil, err
		}
		if !seen[k] {
			seen[k] = true
			out.items = append(out.items, item)
		}
	}
	return out, nil
}

// groupTuple is an element of groupby's result: a pair whose parts have names.
type groupTuple struct {
	grouper Value
	list    *List
}

func filterGroupBy(st *state, v Value, a *arguments) (Value, error) {
	bound, err := a.bind("groupby", 1, "attribute", "default", "case_sensitive")
	if err != nil {
		return nil, err
	}
	if absent(bound[1]) {
		bound[1] = nil
	}
	items, err := st.collect(v)
	if err != nil {
		return nil, err
	}
	o := order{caseSensitive: boolArgument(bound[2])}
	get := st.getter(bound[0], bound[1])
	sorted, err := st.sorted(items, get, o)
	if err != nil {
		return nil, err
	}
	groups := &List{}
	var last *groupTuple
	for _, item := range sorted.items {
		k, err := get(item)
		if err != nil {
			return nil, err
		}
		same := false
		if last != nil {
			x, y := last.grouper, k
			if !o.caseSensitive {
				x, y = st.foldCase(x), st.foldCase(y)
			}
			if same, err = st.equal(x, y); err != nil {
				return nil, err
			}
		}
		if !same {
			last = &groupTuple{k, &List{}}
			groups.items = append(groups.items, last)
		}
		last.list.items = append(last.list.items, item)
	}
	return groups, st.elements(len(items) + len(groups.items))
}

// extreme is the smallest or the largest element; of equal ones the first.
func (st *state) extreme(name string, v Value, a *arguments) (Value, error) {
	bound, err := a.bind(name, 0, "case_sensitive", "attribute")
	if err != nil {
		return nil, err
	}
	items, err := st.collect(v)
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return undefined{hint: "no aggregated item, the sequence was empty"}, nil
	}
	get := st.getter(bound[1], nil)
	var best, bestKey Value
	for _, item := range items {
		k, err := get(item)
		if err != nil {
			return nil, err
		}
		if !boolArgument(bound[0]) {
			k = st.foldCase(k)
		}
		better := best == nil
		if !better {
			op := "<"
			if name == "max" {
				op = ">"
			}
			if better, err = st.ordered(op, k, bestKey); err != nil {
				return nil, err
			}
		}
		if better {
			best, bestKey = item, k
		}
	}
	return best, nil
}

func filterSum(st *state, v Value, a *arguments) (Value, error) {
	bound, err := a.bind("sum", 0, "attribute", "start")
	if err != nil {
		return nil, err
	}
	items, err := st.collect(v)
	if err != nil {
		return nil, err
	}
	total := bound[1]
	if total == nil {
		total = integer(0)
	}
	if _, isText := total.(Text); isText {
		return nil, errors.New("sum() can't sum strings [use ''.join(seq) instead]")
	}
	get := st.getter(bound[0], nil)
	for _, item := range items {
		if item, err = get(item); err != nil {
			return nil, err
		}
		if total, err = st.operate("+", total, item); err != nil {
			return nil, err
		}
	}
	return total, nil
}

func filterReverse(st *state, v Value, a *arguments) (Value, error) {
	if _, err := a.bind("reverse", 0); err != nil {
		return nil, err
	}
	if _, ok := v.(Text); ok {
		return st.slice(v, [3]Value{None{}, None{}, integer(-1)})
	}
	items, err := st.collect(v)
	if err != nil {
		return nil, err
	}
	slices.Reverse(items)
	if _, lazy := v.(*generator); lazy {
		return &List{items: items}, nil
	}
	return &generator{items: items}, nil
}

func filterBatch(st *state, v Value, a *arguments) (Value, error) {
	bound, err := a.bind("batch", 1, "linecount", "fill_with")
	if err != nil {
		return nil, err
	}
	size, err := intArgument(bound[0], "linecount", 0)
	if err != nil {
		return nil, err
	}
	if size < 1 {
		return nil, fmt.Errorf("cannot make batches of %d", size)
	}
	items, err := st.collect(v)
	if err != nil {
		return nil, err
	}
	out := &generator{}
	for chunk := range slices.Chunk(items, size) {
		batch := &List{items: slices.Clone(chunk)}
		if missing := size - len(chunk); missing > 0 && !absent(bound[1]) {
			if err := st.elements(missing); err != nil {
				return nil, err
			}
			for range missing {
				batch.items = append(batch.items, bound[1])
			}
		}
		out.items = append(out.items, batch)
	}
	return out, st.elements(len(items))
}

// filterSlice deals the elements out to a number of lists, the first ones longer where it does not come out even.
func filterSlice(st *state, v Value, a *arguments) (Value, error) {
	bound, err := a.bind("slice", 1, "slices", "fill_with")
	if err != nil {
		return nil, err
	}
	count, err := intArgument(bound[0], "slices", 0)
	if err != nil {
		return nil, err
	}
	if count < 1 {
		return nil, fmt.Errorf("cannot make %d slices", count)
	}
	items, err := st.collect(v)
	if err != nil {
		return nil, err
	}
	if err := st.elements(count); err != nil {
		return nil, err
	}
	if err := st.elements(len(items)); err != nil {
		return nil, err
	}
	out := &generator{}
	at := 0
	for i := range count {
		size := len(items) / count
		if i < len(items)%count {
			size++
		}
		part := &List{items: slices.Clone(items[at : at+size])}
		if i >= len(items)%count && !absent(bound[1]) {
			part.items = append(part.items, bound[1])
		}
		out.items = append(out.items, part)
		at += size
	}
	return out, nil
}
