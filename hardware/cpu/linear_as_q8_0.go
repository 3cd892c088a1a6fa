package cpu

import (
	"encoding/binary"

	"hearth/hardware/quant"
)

// Some formats are, like Q8_0, blocks of 32 small integers times a scale of half precision: they are repacked as Q8_0 and
// lose nothing but the room that they saved.
func formatsLikeQ8_0() []*quant.Format { return []*quant.Format{quant.Q5_0, quant.IQ4_NL} }

// withLikesOfQ8_0 adds their linears to those of a level.
func withLikesOfQ8_0(linears []*linear) []*linear {
	for _, l := range linears {
		if l.format == quant.Q8_0 {
			for _, f := range formatsLikeQ8_0() {
				linears = append(linears, asQ8_0(l, f))
			}
			return linears
		}
	}
	panic("cpu: withLikesOfQ8_0: a level without Q8_0")
}

// asQ8_0 multiplies a format of that kind, whose blocks start with the scale, by the kernel of Q8_0.
func asQ8_0(q8 *linear, f *quant.Format) *linear {
	l := *q8
	l.format = f
	l.pack = func(dst, src []byte, numRows, in int) {
		blocks := numRows * in / shortRun
		rows := make([]byte, blocks*quant.Q8_0.BlockBytes)
		for b := range blocks {
			convertToQ8_0(rows[b*quant.Q8_0.BlockBytes:][:quant.Q8_0.BlockBytes], src[b*f.BlockBytes:][:f.BlockBytes], f)
		}
		q8.pack(dst, rows, numRows, in)
	}
	return &l
}

// convertToQ8_0 reads a block's integers as they are with the scale 1.
func convertToQ8_0(to, block []byte, f *quant.Format) {
	const one = 0x3c00
	var unscaled [34]byte
	var values [shortRun]float32
	copy(unscaled[:], block)
	binary.LittleEndian.PutUint16(unscaled[:], one)
	f.Dequantize(values[:], unscaled[:f.BlockBytes])
	copy(to[:2], block)
	for i, v := range values {
		to[2+i] = byte(int8(v))
	}
}
