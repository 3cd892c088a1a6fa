package cpu

import "math"

// The exponential of float32, as all kernels compute it: e^x = 2^n e^r with n the integer nearest to x/ln 2 and
// r = x - n ln 2 within ±0.35, where a polynomial gives e^r. ln 2 is taken in two parts, the first with so few bits that
// its product with n is exact (Cody and Waite, Software Manual for the Elementary Functions, 1980).
//
// The polynomial 1 + r + r^2 (c2 + c3 r + ... + c6 r^4) is the one of smallest largest relative error, 3.1e-9, found by
// Remez's exchange; its coefficients are then rounded. The whole function is within 1 unit of the last place.
const (
	expLog2E = 0x1.715476p+0
	expLn2Hi = 0x1.62e4p-1    // 17 bits
	expLn2Lo = 0x1.7f7d1cp-20 // ln 2 - expLn2Hi
	expC2    = 0x1.fffffcp-2
	expC3    = 0x1.55549p-3
	expC4    = 0x1.5558f4p-5
	expC5    = 0x1.123a6cp-7
	expC6    = 0x1.6a2352p-10

	// Beyond these x the result is infinite or zero whatever the rest; clamping keeps n within two exponents.
	expMost  = 89
	expLeast = -104
)

// exp returns e^x: 0 for -Inf, +Inf from 88.73 on, NaN for NaN, subnormal results rounded once.
func exp(x float32) float32 {
	if x != x {
		return x
	}
	x = min(max(x, expLeast), expMost)
	n := float32(math.RoundToEven(float64(x * expLog2E)))
	r := x - float32(n*expLn2Hi) - float32(n*expLn2Lo)
	p := float32(expC6)
	for _, c := range [...]float32{expC5, expC4, expC3, expC2} {
		p = float32(p*r) + c
	}
	p = float32(float32(float32(p*r)*r)+r) + 1
	// 2^n may lie beyond the exponents of float32 where the result does not, so it is multiplied in two steps.
	half := int32(n) >> 1
	return p * pow2(half) * pow2(int32(n)-half)
}

// pow2 returns 2^n for the exponents of normal numbers.
func pow2(n int32) float32 { return math.Float32frombits(uint32(n+127) << 23) }
