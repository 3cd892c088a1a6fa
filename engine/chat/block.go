package chat

// block is how a dialect writes calls that follow each other.
type block struct {
	// header reads the beginning of a call at position i, up to its arguments. It returns false where no call is.
	header func(r *reply, i int) (h callHeader, ok bool)
	// arguments hands on the arguments of a call, and returns the position behind the call. It returns false if the reply
	// was cut off.
	arguments func(r *reply, h *callHeader) (next int, complete bool)
	separator string // between calls, where models write one
	close     string // behind the last call; empty where calls just end
}

// callHeader is the beginning of a call.
type callHeader struct {
	name, id  string // the id is empty where the model gives none
	arguments string // those before the name
	next      int    // position of the arguments, or behind the call
	whole     bool   // the call ends at next
}

// read reads calls, the first at position i, and what closes their block. Not even the first has to be one: then it returns
// false, and has accounted for nothing.
func (b *block) read(r *reply, i int) bool {
	for called := false; ; called = true {
		h, ok := b.header(r, i)
		if !ok {
			return called
		}
		r.begin(h.name, h.id, h.next)
		n, complete := b.arguments(r, &h)
		if !complete {
			return true
		}
		if next := r.space(n); b.close != "" && r.has(next, b.close) {
			r.end(next + len(b.close))
			return true
		}
		r.end(n)
		i = r.space(0)
		if b.separator != "" && r.has(i, b.separator) {
			i = r.space(i + len(b.separator))
		}
	}
}
