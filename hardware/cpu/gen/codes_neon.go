package main

// codesARM is how small integers are kept in panels of arm64: their lower bits in planes, bytes for each column and place
// in a word that hold them of several words, and the bits above these in one more plane in front. Together they are a
// unit. See linear_codes_arm64.go.
type codesARM struct {
	lower, upper int          // bits
	minus        int          // what codes are too large by
	values       func() []int // what they stand for, if that is not a difference
	onTop        bool         // codes are signed, and used as the upper 4 bits of bytes
	most         int          // words of a unit at most, 0 for any number
}

// perPlane is the number of words in a lower plane.
func (c codesARM) perPlane() int { return 8 / c.lower }

// unitWords is the number of words in a unit: those that a plane has room for.
func (c codesARM) unitWords() int {
	words := c.perPlane()
	if c.upper > 0 {
		words = 8 / c.upper
	}
	if c.most > 0 {
		words = min(words, c.most)
	}
	return words
}

// unitBytes is the size of a unit.
func (c codesARM) unitBytes(set isa) int {
	planes := c.unitWords() / c.perPlane()
	if c.upper > 0 {
		planes++
	}
	return planes * 16 * set.group()
}

// constants is the number of vectors that hold what extracting needs.
func (c codesARM) constants() int {
	n := 1
	if c.upper > 0 {
		n++
	}
	if c.minus != 0 || c.values != nil {
		n++
	}
	return n
}

// free is the number of vectors that extracting needs for itself.
func (c codesARM) free() int {
	if c.upper > 0 {
		return 4
	}
	return 2
}

// table defines the values in a file and returns their name.
func (c codesARM) table(f *file) string {
	if c.values == nil {
		return ""
	}
	return f.table16("values", "what codes stand for", c.values(), 0)
}

// loadConstants fills the vectors.
func (k *linearARM) loadConstants(c codesARM, table string) {
	next := k.constants
	switch {
	case c.onTop:
		k.op("upper 4 bits", "VMOVI $0xf0, V%d.B16", next)
	default:
		k.op("lower bits", "VMOVI $%d, V%d.B16", 1<<c.lower-1, next)
	}
	next++
	if c.upper > 0 {
		k.op("bits above them", "VMOVI $%d, V%d.B16", (1<<c.upper-1)<<c.lower, next)
		next++
	}
	switch {
	case c.minus != 0:
		k.op("what codes are too large by", "VMOVI $%d, V%d.B16", c.minus, next)
	case c.values != nil:
		k.op("what codes stand for", "MOVD $%s, R9", table)
		k.load(next, 0, "R9", "all 16")
	}
}

// wordPair multiplies two words of codes, the first of which has an even number, of the columns of vector v. They are at
// an offset of R1.
func (k *linearARM) wordPair(c codesARM, pair, v, offset int) {
	step := 16 * k.set.group()
	word := 2 * pair % c.unitWords()
	at := offset + 2*pair/c.unitWords()*c.unitBytes(k.set) + 16*v
	plane := word / c.perPlane()
	raw, w := k.free[0], k.free[1]
	if c.upper > 0 {
		k.load(k.free[2], at, "R1", "upper bits of codes")
		plane++
	}
	k.load(raw, at+step*plane, "R1", "lower bits")
	for i := range 2 {
		k.lowerBits(c, raw, w, (word+i)%c.perPlane())
		if c.upper > 0 {
			k.upperBits(c, w, c.lower-c.upper*(word+i))
		}
		last := k.constants + c.constants() - 1
		switch {
		case c.minus != 0:
			k.op("with signs", "VSUB V%d.B16, V%d.B16, V%d.B16", last, w, w)
		case c.values != nil:
			k.op("what they stand for", "VTBL V%d.B16, [V%d.B16], V%d.B16", w, last, w)
		}
		k.dots([]int{w}, v, 2*pair+i)
	}
}

// lowerBits leaves those of a word of a plane in w.
func (k *linearARM) lowerBits(c codesARM, raw, w, word int) {
	mask := func(from int) { k.op("of one word", "VAND V%d.B16, V%d.B16, V%d.B16", k.constants, from, w) }
	switch {
	case c.onTop && word == 0:
		k.op("first word on top", "VSHL $4, V%d.B16, V%d.B16", raw, w)
	case c.onTop || word == 0:
		mask(raw)
	default:
		k.op("word in place", "VUSHR $%d, V%d.B16, V%d.B16", word*c.lower, raw, w)
		if word < c.perPlane()-1 {
			mask(w)
		}
	}
}

// upperBits puts those of a word above the lower ones; they stand so many bits too far right, or left.
func (k *linearARM) upperBits(c codesARM, w, left int) {
	from := k.free[3]
	switch {
	case left > 0:
		k.op("bits to their place", "VSHL $%d, V%d.B16, V%d.B16", left, k.free[2], from)
	case left < 0:
		k.op("bits to their place", "VUSHR $%d, V%d.B16, V%d.B16", -left, k.free[2], from)
	default:
		from = k.free[2]
	}
	k.op("together", "VBIT V%d.B16, V%d.B16, V%d.B16", k.constants+1, from, w)
}
