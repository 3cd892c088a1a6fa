package kvcache

// none stands for "no block" wherever a block id is linked.
const none int32 = -1

// pool counts the references of blocks and keeps the two stocks that new blocks come from: free ones, and idle ones in
// order of release. It knows nothing about tokens. Later groups of layers each get a pool of their own.
type pool struct {
	refs  []int32 // [blocks] tables that hold the block
	links []link  // [blocks] place in the idle list, while idle
	free  []int32 // stack of free blocks

	oldest, newest int32 // ends of the idle list
	numIdle        int
}

// link is a block's place in the list of idle blocks.
type link struct {
	older, newer int32
	listed       bool
}

func newPool(numBlocks int) pool {
	p := pool{
		refs:   make([]int32, numBlocks),
		links:  make([]link, numBlocks),
		free:   make([]int32, numBlocks),
		oldest: none, newest: none,
	}
	for i := range p.free {
		p.free[i] = int32(numBlocks - 1 - i) // popped in ascending order, which makes tests readable
	}
	return p
}

// available is the number of blocks that could be taken now.
func (p *pool) available() int { return len(p.free) + p.numIdle }

// takeFree pops a free block and gives it its first reference. There must be one.
func (p *pool) takeFree() int32 {
	id := p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	p.refs[id] = 1
	return id
}

// ref adds a reference to a referenced or idle block.
func (p *pool) ref(id int32) {
	if p.refs[id] == 0 {
		p.unlist(id)
	}
	p.refs[id]++
}

// unref drops a reference. A block that loses its last one becomes idle if it is cached, else free.
func (p *pool) unref(id int32, cached bool) {
	p.refs[id]--
	switch {
	case p.refs[id] > 0:
	case cached:
		p.list(id)
	default:
		p.free = append(p.free, id)
	}
}

// freeOldest moves the block that is idle for longest to the free ones and returns it, still with what it holds. There
// must be one.
func (p *pool) freeOldest() int32 {
	id := p.oldest
	p.unlist(id)
	p.free = append(p.free, id)
	return id
}

// list appends a block to the idle ones, as the newest.
func (p *pool) list(id int32) {
	p.links[id] = link{older: p.newest, newer: none, listed: true}
	if p.newest == none {
		p.oldest = id
	} else {
		p.links[p.newest].newer = id
	}
	p.newest = id
	p.numIdle++
}

// unlist removes a block from the idle ones.
func (p *pool) unlist(id int32) {
	l := p.links[id]
	if l.older == none {
		p.oldest = l.newer
	} else {
		p.links[l.older].newer = l.newer
	}
	if l.newer == none {
		p.newest = l.older
	} else {
		p.links[l.newer].older = l.older
	}
	p.links[id] = link{older: none, newer: none}
	p.numIdle--
}
