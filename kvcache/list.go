package kvcache

// list is a queue of ids from which any may leave at any time: a doubly linked list over an array, so that nothing is
// allocated.
type list struct {
	links          []link // [ids] place in the list, while listed
	oldest, newest int32  // ends of the list, or none
	len            int
}

// link is an id's place in a list.
type link struct {
	older, newer int32
	listed       bool
}

// newList returns an empty list for ids below n.
func newList(n int) list {
	return list{links: make([]link, n), oldest: none, newest: none}
}

// has reports whether an id is in the list.
func (l *list) has(id int32) bool { return l.links[id].listed }

// push appends an id that is not in the list, as the newest.
func (l *list) push(id int32) {
	l.links[id] = link{older: l.newest, newer: none, listed: true}
	if l.newest == none {
		l.oldest = id
	} else {
		l.links[l.newest].newer = id
	}
	l.newest = id
	l.len++
}

// pushOldest puts an id that is not in the list before all others.
func (l *list) pushOldest(id int32) {
	l.links[id] = link{older: none, newer: l.oldest, listed: true}
	if l.oldest == none {
		l.newest = id
	} else {
		l.links[l.oldest].older = id
	}
	l.oldest = id
	l.len++
}

// renew makes an id of the list the newest.
func (l *list) renew(id int32) {
	l.remove(id)
	l.push(id)
}

// remove takes an id out of the list that it is in.
func (l *list) remove(id int32) {
	x := l.links[id]
	if x.older == none {
		l.oldest = x.newer
	} else {
		l.links[x.older].newer = x.newer
	}
	if x.newer == none {
		l.newest = x.older
	} else {
		l.links[x.newer].older = x.older
	}
	l.links[id] = link{older: none, newer: none}
	l.len--
}
