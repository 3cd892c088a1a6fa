package quant

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"math/bits"
	"math/rand/v2"
	"strings"
	"testing"

	"hearth/cmd/sharedtest"
)

// formulas give one element of a block by the formula of the format, with nothing shared with the dequantizers: each
// finds its bits by the element's number, and the halves and scales are built from powers of two.
var formulas = map[string]func(b []byte, i int) float32{
	"F32":  func(b []byte, _ int) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(b)) },
	"F16":  func(b []byte, _ int) float32 { return halfFormula(b, 0) },
	"BF16": func(b []byte, _ int) float32 { return math.Float32frombits(uint32(b[0])<<16 | uint32(b[1])<<24) },
	"Q4_0": func(b []byte, i int) float32 { return halfFormula(b, 0) * float32(nibble32(b[2:], i)-8) },
	"Q4_1": func(b []byte, i int) float32 {
		return float32(halfFormula(b, 0)*float32(nibble32(b[4:], i))) + halfFormula(b, 2)
	},
	"Q5_0": func(b []byte, i int) float32 {
		return halfFormula(b, 0) * float32(nibble32(b[6:], i)+16*bit(b[2:], i)-16)
	},
	"Q5_1": func(b []byte, i int) float32 {
		return float32(halfFormula(b, 0)*float32(nibble32(b[8:], i)+16*bit(b[4:], i))) + halfFormula(b, 2)
	},
	"Q8_0": func(b []byte, i int) float32 { return halfFormula(b, 0) * float32(int8(b[2+i])) },
	"Q2_K": formulaQ2_K,
	"Q3_K": formulaQ3_K,
	"Q4_K": func(b []byte, i int) float32 { return formulaScaleMin(b, i, nibble64(b[16:], i)) },
	"Q5_K": func(b []byte, i int) float32 {
		return formulaScaleMin(b, i, nibble64(b[48:], i)+16*bit(b[16+i%32:], i/32))
	},
	"Q6_K":   formulaQ6_K,
	"IQ4_NL": func(b []byte, i int) float32 { return halfFormula(b, 0) * iq4Values[nibble32(b[2:], i)] },
	"IQ4_XS": formulaIQ4_XS,
	"MXFP4":  func(b []byte, i int) float32 { return power(int(b[0])-128) * fp4Formula(nibble32(b[1:], i)) },
	"NVFP4":  formulaNVFP4,
	"F8_E4M3": func(b []byte, i int) float32 {
		return math.Float32frombits(binary.LittleEndian.Uint32(b)) * e4m3Formula(b[4+i])
	},
	"MXFP8": func(b []byte, i int) float32 {
		scale := power(int(b[0]) - 127)
		if b[0] == 255 {
			scale = float32(math.NaN())
		}
		return scale * e4m3Formula(b[1+i])
	},
	"TQ1_0":   formulaTQ1_0,
	"TQ2_0":   func(b []byte, i int) float32 { return halfFormula(b, 64) * float32(crumb128(b, i)-1) },
	"Q1_0":    func(b []byte, i int) float32 { return halfFormula(b, 0) * float32(2*bit(b[2:], i)-1) },
	"Q2_0":    func(b []byte, i int) float32 { return halfFormula(b, 0) * float32(int(b[2+i/4])>>(i%4*2)&3-1) },
	"IQ2_XXS": formulaIQ2_XXS,
	"IQ2_XS":  formulaIQ2_XS,
	"IQ2_S":   formulaIQ2_S,
	"IQ3_XXS": formulaIQ3_XXS,
	"IQ3_S":   formulaIQ3_S,
	"IQ1_S":   formulaIQ1_S,
	"IQ1_M":   formulaIQ1_M,
}

var iq4Values = [16]float32{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}

// e4m3Formula returns the value of a code: negative and positive zero are apart.
func e4m3Formula(code byte) float32 {
	sign := float32(1 - int(code>>7)*2)
	exponent, mantissa := int(code)/8%16, float32(code%8)
	switch {
	case code%128 == 127:
		return float32(math.NaN())
	case exponent == 0:
		return sign * (mantissa / 8 * power(-6))
	}
	return sign * ((1 + mantissa/8) * power(exponent-7))
}

// power returns 2^e, which float32 holds exactly down to -149.
func power(e int) float32 { return float32(math.Ldexp(1, e)) }

// halfFormula reads a half by its definition.
func halfFormula(b []byte, at int) float32 {
	h := int(b[at]) | int(b[at+1])<<8
	exponent, mantissa, sign := h>>10&31, h&1023, 1-2*(h>>15)
	switch exponent {
	case 0:
		return float32(math.Copysign(math.Ldexp(float64(mantissa), -24), float64(sign)))
	case 31:
		if mantissa != 0 {
			return float32(math.NaN())
		}
		return float32(math.Inf(sign))
	}
	return float32(sign) * float32(math.Ldexp(float64(1024+mantissa), exponent-25))
}

// bit returns the i-th bit of b.
func bit(b []byte, i int) int { return int(b[i/8]) >> (i % 8) & 1 }

// nibble32 returns the 4 bits of element i of 32: low nibbles first, then high ones.
func nibble32(b []byte, i int) int { return int(b[i%16]) >> (i / 16 * 4) & 15 }

// nibble64 returns the 4 bits of element i, of which each 64 lie in 32 bytes: low nibbles first, then high ones.
func nibble64(b []byte, i int) int { return int(b[i/64*32+i%32]) >> (i / 32 % 2 * 4) & 15 }

// fp4Formula returns twice the value of a code of E2M1, whose negative zero is zero.
func fp4Formula(code int) float32 {
	values := [8]float32{0, 1, 2, 3, 4, 6, 8, 12}
	if code > 8 {
		return -values[code-8]
	}
	return values[code%8]
}

// crumb128 returns the 2 bits of element i, of which each 128 lie in 32 bytes, 32 elements to a pair of bits.
func crumb128(b []byte, i int) int { return int(b[i/128*32+i%32]) >> (i / 32 % 4 * 2) & 3 }

func formulaQ2_K(b []byte, i int) float32 {
	s := b[i/16]
	d, m := halfFormula(b, 80)*float32(s&15), float32(halfFormula(b, 82)*float32(s>>4))
	return float32(d*float32(crumb128(b[16:], i))) - m
}

func formulaQ3_K(b []byte, i int) float32 {
	s, k := b[96:108], i/16
	low := int(s[k%8]) & 15
	if k >= 8 {
		low = int(s[k-8]) >> 4
	}
	scale := low | int(s[8+k%4])>>(2*(k/4))&3<<4
	q := crumb128(b[32:], i)
	if bit(b[i%32:], i/32) == 0 {
		q -= 4
	}
	return halfFormula(b, 108) * float32(scale-32) * float32(q)
}

func formulaScaleMin(b []byte, i, q int) float32 {
	s, j := b[4:16], i/32
	scale, minimum := s[j%4]&63, s[j%4+4]&63
	if j >= 4 {
		scale = s[j+4]&15 | s[j-4]>>6<<4
		minimum = s[j+4]>>4 | s[j]>>6<<4
	}
	return float32(halfFormula(b, 0)*float32(scale)*float32(q)) - float32(halfFormula(b, 2)*float32(minimum))
}

func formulaQ6_K(b []byte, i int) float32 {
	half, r := i/128, i%128
	lo := int(b[64*half+r%64]) >> (r / 64 * 4) & 15
	hi := int(b[128+32*half+r%32]) >> (r / 32 * 2) & 3
	return halfFormula(b, 208) * float32(int8(b[192+i/16])) * float32(lo+16*hi-32)
}

func formulaIQ4_XS(b []byte, i int) float32 {
	run := i / 32
	scale := int(b[4+run/2])>>(run%2*4)&15 + 16*(int(binary.LittleEndian.Uint16(b[2:]))>>(2*run)&3)
	return halfFormula(b, 0) * float32(scale-32) * iq4Values[nibble32(b[8+16*run:], i%32)]
}

func formulaNVFP4(b []byte, i int) float32 {
	e := int(b[i/16])
	exponent, mantissa := e>>3&15, e&7
	scale := float32(mantissa) * power(-10)
	if exponent > 0 {
		scale = float32(8+mantissa) * power(exponent-11)
	}
	if e == 0x7f {
		scale = 0
	}
	return scale * fp4Formula(int(b[4+i/16*8+i%8])>>(i%16/8*4)&15)
}

func formulaTQ1_0(b []byte, i int) float32 {
	at, digit := i%32, i/32
	if i >= 160 {
		at, digit = 32+(i-160)%16, (i-160)/16
	}
	if i >= 240 {
		at, digit = 48+(i-240)%4, (i-240)/4
	}
	t := int(b[at])
	for range digit {
		t = t * 3 % 256
	}
	return halfFormula(b, 52) * float32(t*3/256-1)
}

// grids are the codebooks of the reference data, after loadGrids.
var grids = map[string][][]float32{}

// usesGrid reports whether a format's formula needs grids.
func usesGrid(f *Format) bool {
	return strings.HasPrefix(f.Name, "IQ") && !strings.HasPrefix(f.Name, "IQ4")
}

// loadGrids reads the reference's codebooks; it skips the test where there are none.
func loadGrids(t testing.TB) {
	t.Helper()
	var books map[string]struct {
		Grid [][]float32 `json:"grid"`
	}
	if err := json.Unmarshal(sharedtest.ReadFile(t, "testdata", "quants", "codebooks.json"), &books); err != nil {
		t.Fatal(err)
	}
	for name, book := range books {
		if book.Grid != nil {
			grids[name] = book.Grid
		}
	}
}

// parity7 is the sign of element j, of which bit 7 makes the number of negative ones even.
func parity7(signs uint32, j int) float32 {
	signs &= 127
	signs |= uint32(bits.OnesCount32(signs)&1) << 7
	return 1 - 2*float32(signs>>j&1)
}

func formulaIQ2_XXS(b []byte, i int) float32 {
	run := b[2+i/32*8:]
	s := binary.LittleEndian.Uint32(run[4:])
	k := i % 32 / 8
	scale := halfFormula(b, 0) * (0.5 + float32(s>>28)) * 0.25
	return scale * grids["IQ2_XXS"][run[k]][i%8] * parity7(s>>(7*k), i%8)
}

func formulaIQ2_XS(b []byte, i int) float32 {
	p := binary.LittleEndian.Uint16(b[2+i/8*2:])
	scale := halfFormula(b, 0) * (0.5 + float32(b[66+i/32]>>(i/16%2*4)&15)) * 0.25
	return scale * grids["IQ2_XS"][p&511][i%8] * parity7(uint32(p>>9), i%8)
}

func formulaIQ2_S(b []byte, i int) float32 {
	k := i / 8
	point := int(b[2+k]) + 256*(int(b[66+k/4])>>(k%4*2)&3)
	scale := halfFormula(b, 0) * (0.5 + float32(b[74+i/32]>>(i/16%2*4)&15)) * 0.25
	return scale * grids["IQ2_S"][point][i%8] * float32(1-2*bit(b[34:], i))
}

func formulaIQ3_XXS(b []byte, i int) float32 {
	s := binary.LittleEndian.Uint32(b[66+i/32*4:])
	scale := halfFormula(b, 0) * (0.5 + float32(s>>28)) * 0.5
	return scale * grids["IQ3_XXS"][b[2+i/4]][i%4] * parity7(s>>(i%32/8*7), i%8)
}

func formulaIQ3_S(b []byte, i int) float32 {
	point := int(b[2+i/4]) + 256*bit(b[66:], i/4)
	scale := halfFormula(b, 0) * float32(1+2*int(b[106+i/64]>>(i/32%2*4)&15))
	return scale * grids["IQ3_S"][point][i%4] * float32(1-2*bit(b[74:], i))
}

func formulaIQ1_S(b []byte, i int) float32 {
	h := int(binary.LittleEndian.Uint16(b[34+i/32*2:]))
	point := int(b[2+i/8]) + 256*(h>>(i/8%4*3)&7)
	shift := 0.125 - 0.25*float32(h>>15)
	return halfFormula(b, 0) * float32(2*(h>>12&7)+1) * (grids["IQ1_S"][point][i%8] + shift)
}

func formulaIQ1_M(b []byte, i int) float32 {
	var d [2]byte
	d[0] = b[49]>>4 | b[51]&0xf0
	d[1] = b[53]>>4 | b[55]&0xf0
	s := int(binary.LittleEndian.Uint16(b[48+i/64*2:])) >> (i / 16 % 4 * 3) & 7
	h := int(b[32+i/16]) >> (i / 8 % 2 * 4) & 15
	shift := 0.125 - 0.25*float32(h>>3)
	return halfFormula(d[:], 0) * float32(2*s+1) * (grids["IQ1_M"][int(b[i/8])+256*(h&7)][i%8] + shift)
}

// scaleAt says where the halves of a block are that scale it.
var scaleAt = map[string][]int{
	"F16": {0}, "Q4_0": {0}, "Q4_1": {0, 2}, "Q5_0": {0}, "Q5_1": {0, 2}, "Q8_0": {0}, "Q2_K": {80, 82}, "Q3_K": {108},
	"Q4_K": {0, 2}, "Q5_K": {0, 2}, "Q6_K": {208}, "IQ4_NL": {0}, "IQ4_XS": {0}, "TQ1_0": {52}, "TQ2_0": {64}, "Q1_0": {0},
	"Q2_0": {0}, "IQ2_XXS": {0}, "IQ2_XS": {0}, "IQ2_S": {0}, "IQ3_XXS": {0}, "IQ3_S": {0}, "IQ1_S": {0},
}

// extremeHalves are zeros, subnormals, the smallest normal, ones, the largest, infinities and NaN.
var extremeHalves = []uint16{0, 0x8000, 1, 0x8001, 0x03ff, 0x0400, 0x3c00, 0xbc00, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e00, 0x7c01, 0xfe00}

// extremeBlocks calls visit with random blocks whose scales are extreme, each with each.
func extremeBlocks(f *Format, visit func(block []byte)) {
	rng := rand.New(rand.NewPCG(3, 5))
	places := scaleAt[f.Name]
	for range 4 {
		for _, first := range extremeHalves {
			for _, second := range extremeHalves {
				block := randomBlocks(f, rng, 1)
				for i, at := range places {
					binary.LittleEndian.PutUint16(block[at:], [2]uint16{first, second}[i])
				}
				if f == IQ1_M {
					for i := range 4 {
						block[49+2*i] = block[49+2*i]&15 | byte(first>>(4*i)&15)<<4
					}
				}
				visit(block)
			}
		}
	}
	// Where the scale is a byte, or the element itself, every one of its values.
	for v := range 256 {
		block := randomBlocks(f, rng, 1)
		if f == BF16 || f == F32 {
			block[f.BlockBytes-1] = byte(v)
		} else if f == MXFP4 || f == NVFP4 || f == MXFP8 {
			block[0] = byte(v)
		}
		visit(block)
	}
}

// TestDequantizeExtremes compares blocks with extreme scales with the formulas, bit by bit.
func TestDequantizeExtremes(t *testing.T) {
	for _, f := range All() {
		t.Run(f.Name, func(t *testing.T) {
			if usesGrid(f) {
				loadGrids(t)
			}
			extremeBlocks(f, func(block []byte) { checkFormula(t, f, block) })
		})
	}
}

func checkFormula(t *testing.T, f *Format, block []byte) {
	t.Helper()
	got := make([]float32, f.BlockLen)
	f.Dequantize(got, block)
	for i := range got {
		if want := formulas[f.Name](block, i); !same(got[i], want) {
			t.Fatalf("%s: element %d is %v, its formula gives %v; block % x", f, i, got[i], want, block)
		}
	}
}

// same reports whether two numbers have the same bits, or are both not numbers.
func same(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}

// FuzzDequantize compares any blocks with the formulas, of formats whose formulas need no reference data.
func FuzzDequantize(f *testing.F) {
	for _, format := range All() {
		n := 0
		extremeBlocks(format, func(block []byte) {
			if n++; n%331 == 0 {
				f.Add(format.Name, block)
			}
		})
	}
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		format, ok := ByName(name)
		if !ok || usesGrid(format) {
			return
		}
		for ; len(data) >= format.BlockBytes; data = data[format.BlockBytes:] {
			checkFormula(t, format, data[:format.BlockBytes])
		}
	})
}
