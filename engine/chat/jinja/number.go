package jinja

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// maxIntBits bounds integers: beyond about 4300 digits Python refuses to print them, too.
const maxIntBits = 14_300

var errZeroDivision = errors.New("division by zero")

// isNumber reports whether v takes part in arithmetic, as Python's bool does.
func isNumber(v Value) bool {
	switch v.(type) {
	case Bool, integer, bigInteger, float:
		return true
	}
	return false
}

// asInt returns an integer that fits int, which an index, a count or a width needs.
func asInt(v Value) (int, bool) {
	n, ok := asInt64(v)
	return int(n), ok && int64(int(n)) == n
}

// asBig returns an integer of any size.
func asBig(v Value) (*big.Int, bool) {
	switch v := v.(type) {
	case Bool, integer:
		n, _ := asInt64(v)
		return big.NewInt(n), true
	case bigInteger:
		return v.v, true
	}
	return nil, false
}

func asInt64(v Value) (int64, bool) {
	switch v := v.(type) {
	case Bool:
		if v {
			return 1, true
		}
		return 0, true
	case integer:
		return int64(v), true
	}
	return 0, false
}

func asFloat(v Value) (float64, error) {
	switch v := v.(type) {
	case float:
		return float64(v), nil
	case bigInteger:
		f, _ := new(big.Float).SetInt(v.v).Float64()
		if math.IsInf(f, 0) {
			return 0, errors.New("int too large to convert to float")
		}
		return f, nil
	}
	n, _ := asInt64(v)
	return float64(n), nil
}

// newInteger returns n in its smallest form.
func newInteger(n *big.Int) (Value, error) {
	if n.IsInt64() {
		return integer(n.Int64()), nil
	}
	if n.BitLen() > maxIntBits {
		return nil, fmt.Errorf("%w: an integer of more than %d bits", ErrLimit, maxIntBits)
	}
	return bigInteger{n}, nil
}

// arithmetic computes a binary operation of two numbers.
func arithmetic(op string, a, b Value) (Value, error) {
	_, floatA := a.(float)
	_, floatB := b.(float)
	if floatA || floatB || op == "/" {
		x, err := asFloat(a)
		if err != nil {
			return nil, err
		}
		y, err := asFloat(b)
		if err != nil {
			return nil, err
		}
		return floatArithmetic(op, x, y)
	}
	if x, okX := asInt64(a); okX {
		if y, okY := asInt64(b); okY {
			if v, ok := smallArithmetic(op, x, y); ok {
				return v, nil
			}
		}
	}
	x, _ := asBig(a)
	y, _ := asBig(b)
	return bigArithmetic(op, x, y)
}

// smallArithmetic handles what cannot overflow, which is nearly everything.
func smallArithmetic(op string, x, y int64) (Value, bool) {
	const half = 1 << 31
	if x <= -half || x >= half || y <= -half || y >= half {
		return nil, false
	}
	switch op {
	case "+":
		return integer(x + y), true
	case "-":
		return integer(x - y), true
	case "*":
		return integer(x * y), true
	case "//", "%":
		if y == 0 {
			return nil, false
		}
		quotient, rest := x/y, x%y
		if rest != 0 && (rest < 0) != (y < 0) { // Python rounds towards minus infinity
			quotient, rest = quotient-1, rest+y
		}
		if op == "%" {
			return integer(rest), true
		}
		return integer(quotient), true
	}
	return nil, false
}

func bigArithmetic(op string, x, y *big.Int) (Value, error) {
	z := new(big.Int)
	switch op {
	case "+":
		z.Add(x, y)
	case "-":
		z.Sub(x, y)
	case "*":
		z.Mul(x, y)
	case "//", "%":
		if y.Sign() == 0 {
			return nil, errors.New("integer modulo or division by zero")
		}
		rest := new(big.Int)
		z.QuoRem(x, y, rest)
		if rest.Sign() != 0 && rest.Sign() != y.Sign() {
			z.Sub(z, big.NewInt(1))
			rest.Add(rest, y)
		}
		if op == "%" {
			z = rest
		}
	case "**":
		return bigPower(x, y)
	}
	return newInteger(z)
}

func bigPower(x, y *big.Int) (Value, error) {
	if y.Sign() < 0 {
		fx, _ := new(big.Float).SetInt(x).Float64()
		fy, _ := new(big.Float).SetInt(y).Float64()
		return floatArithmetic("**", fx, fy)
	}
	if x.CmpAbs(big.NewInt(1)) > 0 && (!y.IsInt64() || y.Int64() > maxIntBits || int64(x.BitLen()-1)*y.Int64() > maxIntBits) {
		return nil, fmt.Errorf("%w: an integer of more than %d bits", ErrLimit, maxIntBits)
	}
	if !y.IsInt64() { // the base is -1, 0 or 1: only the parity matters
		y = new(big.Int).And(y, big.NewInt(1))
		if x.Sign() == 0 {
			y = big.NewInt(1)
		}
	}
	return newInteger(new(big.Int).Exp(x, y, nil))
}

func floatArithmetic(op string, x, y float64) (Value, error) {
	switch op {
	case "+":
		return float(x + y), nil
	case "-":
		return float(x - y), nil
	case "*":
		return float(x * y), nil
	case "**":
		if x == 0 && y < 0 {
			return nil, errors.New("0.0 cannot be raised to a negative power")
		}
		return float(math.Pow(x, y)), nil
	}
	if y == 0 {
		return nil, errZeroDivision
	}
	if op == "/" {
		return float(x / y), nil
	}
	rest := math.Mod(x, y)
	if rest != 0 && (rest < 0) != (y < 0) {
		rest += y
	}
	if op == "%" {
		return float(rest), nil
	}
	return float(math.Round((x - rest) / y)), nil
}

// negate is the unary minus.
func negate(v Value) (Value, error) {
	if f, ok := v.(float); ok {
		return -f, nil
	}
	return arithmetic("-", integer(0), v)
}

// compareNumbers returns the sign of a-b; ok is false when one is not a number (NaN).
func compareNumbers(a, b Value) (sign int, ok bool) {
	_, floatA := a.(float)
	_, floatB := b.(float)
	if !floatA && !floatB {
		x, okX := asInt64(a)
		y, okY := asInt64(b)
		if okX && okY {
			return compareOrdered(x, y), true
		}
		bigX, _ := asBig(a)
		bigY, _ := asBig(b)
		return bigX.Cmp(bigY), true
	}
	x, y := bigFloat(a), bigFloat(b)
	if x == nil || y == nil {
		return 0, false
	}
	return x.Cmp(y), true
}

// bigFloat is v without rounding, nil for NaN.
func bigFloat(v Value) *big.Float {
	if f, ok := v.(float); ok {
		if math.IsNaN(float64(f)) {
			return nil
		}
		return big.NewFloat(float64(f))
	}
	n, _ := asBig(v)
	return new(big.Float).SetPrec(maxIntBits + 64).SetInt(n)
}

func compareOrdered[T int64 | int | string](x, y T) int {
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// floatString is Python's repr of a float: the shortest digits that read back, an exponent below 1e-4 and from 1e16.
func floatString(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case f == 0:
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	digits := strconv.FormatFloat(f, 'e', -1, 64)
	exponent, _ := strconv.Atoi(digits[strings.IndexByte(digits, 'e')+1:])
	if exponent < -4 || exponent >= 16 {
		return digits // Go and Python both write at least two digits of exponent
	}
	plain := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(plain, ".") {
		plain += ".0"
	}
	return plain
}

// parseInt reads an integer as Python's int() does: spaces around it, a sign, underscores between digits.
func parseInt(s string, base int) (Value, bool) {
	s = strings.TrimFunc(s, isSpace)
	if len(s) > maxIntBits { // longer than any integer within the limit, in any base
		return nil, false
	}
	if base != 0 && (base < 2 || base > 36) || strings.HasPrefix(s, "_") || strings.HasSuffix(s, "_") || strings.Contains(s, "__") {
		return nil, false
	}
	digits := strings.ToLower(strings.TrimLeft(s, "+-"))
	if len(s)-len(digits) > 1 {
		return nil, false
	}
	for prefix, b := range map[string]int{"0x": 16, "0o": 8, "0b": 2} {
		if rest, ok := strings.CutPrefix(digits, prefix); ok && (base == b || base == 0) {
			digits, base = strings.TrimPrefix(rest, "_"), b
		}
	}
	if base == 0 {
		base = 10
	}
	n, ok := new(big.Int).SetString(strings.ReplaceAll(digits, "_", ""), base)
	if !ok || digits == "" || digits[0] == '-' || digits[0] == '+' {
		return nil, false
	}
	if strings.HasPrefix(s, "-") {
		n.Neg(n)
	}
	v, err := newInteger(n)
	return v, err == nil
}

// parseFloat reads a float as Python's float() does.
func parseFloat(s string) (float64, bool) {
	s = strings.ToLower(strings.TrimFunc(s, isSpace))
	if strings.ContainsAny(s, "xp") || strings.HasPrefix(s, "_") || strings.HasSuffix(s, "_") || strings.Contains(s, "__") {
		return 0, false
	}
	f, err := strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, false
	}
	return f, true
}
