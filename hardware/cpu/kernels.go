package cpu

import "hearth/hardware/quant"

// panelCols is the number of weight rows, that is output columns, in a panel.
const panelCols = 16

// kernels are the inner loops of one ISA level, chosen once when the device opens. Every level computes each row by
// itself in one fixed order, so that a row's bits do not depend on which rows are computed beside it; two levels may
// differ in the last bits. The functions may be called concurrently on different memory, check nothing and allocate
// nothing.
type kernels struct {
	level string // "avx512bf16", …, "avx2"; "i8mm", "dotprod", "neon"; "go"

	linears []*linear // formats with a kernel of their own; the others go through fallbackLinear

	// gemm multiplies float32 rows with one panel [k][panelCols] of float32, float16 or bfloat16 elements.
	gemmF32, gemmF16, gemmBF16 func(a *gemmArgs)

	// tiles multiply float32 rows with the cache's keys and values, by the format of these. Levels that leave them out
	// get them made of gemm (tile.go).
	tilesF32, tilesF16, tilesBF16, tilesQ8_0 tileKernels

	sumSquares func(x []float32) float32                     // sum of x[i]^2, fixed lanes and tree
	scaleMul   func(dst, x, w []float32, scale float32)      // dst[i] = x[i] * scale * w[i]; dst may be x
	maxOf      func(x []float32) float32                     // largest element, -Inf for none
	expSum     func(dst, x []float32, shift float32) float32 // dst[i] = exp(x[i] - shift); returns their sum; dst may be x
	scale      func(x []float32, s float32)                  // x[i] *= s
	add        func(dst, x []float32)                        // dst[i] += x[i]
	siluMul    func(dst, gate, up []float32)                 // dst[i] = silu(gate[i]) * up[i]; dst may be either
	sigmoidMul func(dst, gate, up []float32)                 // dst[i] = sigmoid(gate[i]) * up[i]; dst may be either
	addScaled  func(dst, x []float32, s float32)             // dst[i] += s * x[i]
	// addPositive is dst[i] += s * max(0, x[i]).
	addPositive func(dst, x []float32, s float32)
	mulAdd      func(dst, x, w []float32)     // dst[i] += x[i] * w[i]
	halves      func(dst []byte, x []float32) // float32 to float16, round to nearest even

	// halvesOfE4M3 writes codes, a multiple of 32, as halves of 1/256 of their value: sign, exponent and mantissa keep their
	// order, and move to the upper end. Those of what is not a number become numbers.
	halvesOfE4M3 func(dst, codes []byte)

	// clippedMul is dst[i] = g * sigmoid(slope * g) * (u + shift), for g = gate[i] cut to at most limit and u = up[i] to
	// -limit…limit; dst may be either.
	clippedMul func(dst, gate, up []float32, slope, limit, shift float32)

	// scaleByHalves is dst[i] = x[i] * halves[i], for a multiple of 8 elements. Only tiles that are made of gemm need it.
	scaleByHalves func(dst, x []float32, halves []byte)

	quantizeQ8_0 func(dst []byte, x []float32) // as quant.Q8_0 does it, bit by bit, for whole blocks

	// copyRows and addRows are dst[r*dstStride+c] = x[r*xStride+c], and +=, for r < rows and c < cols.
	copyRows, addRows func(dst []float32, dstStride int, x []float32, xStride, rows, cols int)

	// rotateHalves and rotatePairs turn pairs (u, v) of one head by angles given as cos and sin of len(x)/2 elements:
	// u cos - v sin, v cos + u sin. Pair i is x[i], x[i+len(x)/2] in halves, and x[2i], x[2i+1] in pairs. dst may be x.
	rotateHalves, rotatePairs func(dst, x, cos, sin []float32)

	peaks []peak       // what the instruction set does at best, one or more of each arithmetic that it has
	reads []readKernel // ways to read memory; the fastest counts
}

// gemmArgs is one call of a float kernel: dst[r][c] (+)= sum over i < k of x[r][i] * panel[i][c], i ascending.
type gemmArgs struct {
	dst       []float32 // [rows][dstStride], panelCols of each written
	dstStride int
	x         []float32 // [rows][xStride]
	xStride   int
	panel     []byte // [k][panelCols] elements
	k, rows   int    // rows is any number from 1; the kernel cuts it into tiles
	add       bool   // add to dst instead of overwriting it
}

// linear is how weights of one format are packed and multiplied at one level. A weight [Out, In] becomes
// ceil(Out/panelCols) panels, each strictly sequential in memory; the rows that the last one lacks are zero.
// Activations are brought into the form that the kernel wants once per matrix product, as a tile of rows.
type linear struct {
	format      *quant.Format
	roundsFloat bool // of a float format: prepare rounds the rows to it too
	tileRows    int  // rows that one call multiplies best; a call may have fewer, never more

	// panelBytes is the size of one panel for rows of in elements, a multiple of 64.
	panelBytes func(in int) int
	// pack writes one panel from numRows (1 to panelCols) consecutive rows in the file's format.
	pack func(dst, src []byte, numRows, in int)
	// row dequantizes one row of a packed panel, exactly as format does.
	row func(dst []float32, panel []byte, col, in int)
	// tileBytes is the size of a tile of rows (1 to tileRows) rows of in elements, a multiple of 64.
	tileBytes func(in, rows int) int
	prepare   prepareFunc
	scratch   int // elements of multiplyArgs.scratch that multiply needs
	// multiply computes dst[r*dstStride+c] for r < rows and c < numPanels*panelCols.
	multiply func(a *multiplyArgs)
	// beside is how many panels multiply reads at once where there is one row, 0 where it reads one after the other.
	beside int
	// expanded does the same for many tiles, nil where that gains nothing.
	expanded *expansion
}

// prepareFunc fills a tile from rows x[r*stride : r*stride+in]. A row's bytes depend on that row alone.
type prepareFunc = func(tile []byte, x []float32, stride, rows, in int)

// multiplyArgs is one call of a linear kernel. Weights are read once, each panel in address order.
type multiplyArgs struct {
	dst       []float32 // [rows][dstStride], dstStride >= numPanels*panelCols
	dstStride int
	panels    []byte // numPanels consecutive panels
	numPanels int
	tile      []byte // as prepare left it
	rows, in  int

	scratch []float32 // linear.scratch elements of the caller's own, nil when the linear asks for none
	gemm    gemmArgs  // room for the call of a float kernel, which would else be allocated
}
