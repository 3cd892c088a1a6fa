package kvcache

// none stands for "no block" wherever a block id is linked.
const none int32 = -1

// pool counts the references of blocks and keeps the two stocks that new blocks come from: free ones, and idle ones in
// order of release. It knows nothing about tokens. Later groups of layers each get a pool of their own.
type pool struct {
	refs []int32 // [blocks] tables that hold the block
	free []int32 // stack of free blocks
	idle list
}

func newPool(numBlocks int) pool {
	p := pool{refs: make([]int32, numBlocks), free: make([]int32, numBlocks), idle: newList(numBlocks)}
	for i := range p.free {
		p.free[i] = int32(numBlocks - 1 - i) // popped in ascending order, which makes tests readable
	}
	return p
}

// available is the number of blocks that could be taken now.
func (p *pool) available() int { return len(p.free) + p.idle.len }

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
		p.idle.remove(id)
	}
	p.refs[id]++
}

// unref drops a reference. A block that loses its last one becomes idle if it is cached, else free.
func (p *pool) unref(id int32, cached bool) {
	p.refs[id]--
	switch {
	case p.refs[id] > 0:
	case cached:
		p.idle.push(id)
	default:
		p.free = append(p.free, id)
	}
}

// discard moves an idle block to the free ones, still with what it holds.
func (p *pool) discard(id int32) {
	p.idle.remove(id)
	p.free = append(p.free, id)
}
