package hardware

// The operations of this file belong to layers that remember more than keys and values: recurrent, sparse and compressed
// attention, and several residual streams.

// ConvArgs is a causal convolution of each column over positions with SiLU behind it:
// Dst[p] = silu(sum over j < taps of Weight[col, j] * X[p - taps + 1 + j]), j ascending, rows before position 0 being zero.
type ConvArgs struct {
	X      Tensor // [tokens, cols], the rows of this step
	Ring   Ring   // of the same columns, with a reach of taps - 1: the rows before this step
	Weight Weight // [cols, taps]
	Dst    Tensor // [tokens, cols], not X
}

// HeadMap says which key head a value head uses.
type HeadMap uint8

// The maps, for r value heads to a key head.
const (
	Grouped HeadMap = iota // value head h uses key head h / r
	Tiled                  // value head h uses key head h mod (number of key heads)
)

// DeltaRuleArgs is the gated delta rule (arXiv 2412.06464) on a state S of each value head, with
// beta = sigmoid(B), g = Decay * ln(1 + e^(A + Bias)):
//
//	S = e^g S + beta k (v - e^g S^T k)^T,  Dst = S^T q
//
// in chunks of BlockLen positions, counted from position 0, for a row i of a chunk that S entered:
//
//	G_i = g_0 + ... + g_i
//	d_i = beta_i (v_i - e^G_i S^T k_i - sum over j < i of e^(G_i - G_j) (k_i k_j) d_j)
//	Dst = e^G_i S^T q_i + sum over j <= i of e^(G_i - G_j) (q_i k_j) d_j
//
// and, when the first row of the next chunk comes, S = e^G S + sum over j of e^(G - G_j) k_j d_j^T, G being the last G_j.
// What a slot keeps is S and the rows k, d and G of its chunk, so rows of the chunk may be taken back and written again.
type DeltaRuleArgs struct {
	Q, K        Tensor // [tokens, key heads, key dim], normalised
	V           Tensor // [tokens, value heads, value dim]
	A, B        Tensor // [tokens, value heads]
	Decay, Bias Weight // [1, value heads] each
	State       Delta
	Dst         Tensor // [tokens, value heads, value dim]
}

// Reduction says how the products of index queries and an index key become a score.
type Reduction uint8

// The reductions.
const (
	WeightedReLU Reduction = iota // sum over heads of weight * max(0, product): one score for all heads of attention
	MaxOfUnit                     // each index head by itself; a unit scores the largest product of its visible entries
)

// SelectArgs chooses for each row the TopK best visible entries of an index stream, as the function TopK does, for
// Source.Selection. With MaxOfUnit whole units of Unit entries are chosen, counted from entry 0, the Local units up to
// the row's own always among them, for each index head by itself; index head i selects for the i-th group of equally many
// key heads.
type SelectArgs struct {
	Q       Tensor // [tokens, index heads, index dim]
	Weights Tensor // [tokens, index heads] for WeightedReLU
	Index   Stream // one head of index dim
	Reduce  Reduction
	Scale   float32 // multiplies scores; 0 means 1
	Unit    int     // entries of a unit, for MaxOfUnit
	Local   int     // units, for MaxOfUnit
	TopK    int     // entries, or units
	Dst     Selection
}

// CompressArgs makes one entry of a stream from Ratio positions each, when the last of them comes. Column c of entry e is
// the sum over its positions of value * softmax(gate + Ape[c, p mod Ratio]), normalised as RMSNorm with Weight and Eps, its
// last 2*len(Frequencies) elements rotated by position e * Ratio. X holds [values | gates].
//
// With Overlap values and gates have two halves of the entry's width, and an entry mixes the first halves of the Ratio
// positions before its own with the second halves of its own; entry 0 has none before.
type CompressArgs struct {
	X       Tensor // [tokens, 2 * width], width being the stream's dim, with Overlap twice that
	Ring    Ring   // of the same columns: the rows before this step, with a reach of Ratio - 1, with Overlap 2*Ratio - 1
	Ape     Weight // [Ratio, width]: row p mod Ratio
	Weight  Weight // [1, dim]
	Eps     float32
	Rope    Rope
	Overlap bool
	Dst     Stream // its Ratio is the number of positions of an entry
}

// RememberArgs writes the rows of this step into a ring, for the steps that follow. It comes after all that reads the ring.
type RememberArgs struct {
	X    Tensor // [tokens, cols]
	Ring Ring
}

// HyperPreArgs reads a block's input from n residual streams (manifold-constrained hyper-connections, arXiv 2512.24880).
// With m = Mix, s = Scale and b = Base, for n streams:
//
//	pre[h]  = sigmoid(m[h] s[0] + b[h]) + Eps
//	post[h] = 2 sigmoid(m[n+h] s[1] + b[n+h])
//	C       = m[2n:] s[2] + b[2n:] as [src][dst], softmax of each row, + Eps, columns divided by their sums + Eps, then
//	          Iterations - 1 times: rows divided by their sums + Eps, columns likewise
//	Dst     = sum over h of pre[h] X[h],  Coef = post | C
//
// Without Coef Mix has n columns, Scale one, and there is pre alone: the collapse before the head.
type HyperPreArgs struct {
	X           Tensor // [tokens or outputs, n, dim]
	Mix         Tensor // [rows, n(n+2)], or [rows, n]
	Scale, Base Weight // [1, 3] and [1, n(n+2)], or [1, 1] and [1, n]
	Eps         float32
	Iterations  int
	Dst         Tensor // [rows, dim]
	Coef        Tensor // [rows, n + n*n], or the zero value
}

// HyperPostArgs writes a block's result to n residual streams, with post and C from HyperPreArgs:
// X[dst] = post[dst] Y + sum over src, ascending, of C[src][dst] X[src].
type HyperPostArgs struct {
	X    Tensor // [tokens, n, dim], updated
	Y    Tensor // [tokens, dim]
	Coef Tensor // [tokens, n + n*n]
}

// Kind returns OpCopy.
func (*CopyArgs) Kind() OpKind { return OpCopy }

// Kind returns OpConv.
func (*ConvArgs) Kind() OpKind { return OpConv }

// Kind returns OpDeltaRule.
func (*DeltaRuleArgs) Kind() OpKind { return OpDeltaRule }

// Kind returns OpSelect.
func (*SelectArgs) Kind() OpKind { return OpSelect }

// Kind returns OpCompress.
func (*CompressArgs) Kind() OpKind { return OpCompress }

// Kind returns OpRemember.
func (*RememberArgs) Kind() OpKind { return OpRemember }

// Kind returns OpHyperPre.
func (*HyperPreArgs) Kind() OpKind { return OpHyperPre }

// Kind returns OpHyperPost.
func (*HyperPostArgs) Kind() OpKind { return OpHyperPost }

// Reads appends X.
func (a *CopyArgs) Reads(dst []Tensor) []Tensor { return append(dst, a.X) }

// Reads appends X.
func (a *ConvArgs) Reads(dst []Tensor) []Tensor { return append(dst, a.X) }

// Reads appends Q, K, V, A and B.
func (a *DeltaRuleArgs) Reads(dst []Tensor) []Tensor { return append(dst, a.Q, a.K, a.V, a.A, a.B) }

// Reads appends Q and Weights.
func (a *SelectArgs) Reads(dst []Tensor) []Tensor {
	if a.Weights.Valid() {
		return append(dst, a.Q, a.Weights)
	}
	return append(dst, a.Q)
}

// Reads appends X.
func (a *CompressArgs) Reads(dst []Tensor) []Tensor { return append(dst, a.X) }

// Reads appends X.
func (a *RememberArgs) Reads(dst []Tensor) []Tensor { return append(dst, a.X) }

// Reads appends X and Mix.
func (a *HyperPreArgs) Reads(dst []Tensor) []Tensor { return append(dst, a.X, a.Mix) }

// Reads appends X, Y and Coef.
func (a *HyperPostArgs) Reads(dst []Tensor) []Tensor { return append(dst, a.X, a.Y, a.Coef) }

// Writes appends Dst.
func (a *CopyArgs) Writes(dst []Tensor) []Tensor { return append(dst, a.Dst) }

// Writes appends Dst.
func (a *ConvArgs) Writes(dst []Tensor) []Tensor { return append(dst, a.Dst) }

// Writes appends Dst.
func (a *DeltaRuleArgs) Writes(dst []Tensor) []Tensor { return append(dst, a.Dst) }

// Writes appends nothing: a selection is not a tensor.
func (*SelectArgs) Writes(dst []Tensor) []Tensor { return dst }

// Writes appends nothing: the stream is not a tensor.
func (*CompressArgs) Writes(dst []Tensor) []Tensor { return dst }

// Writes appends nothing: the ring is not a tensor.
func (*RememberArgs) Writes(dst []Tensor) []Tensor { return dst }

// Writes appends Dst and Coef.
func (a *HyperPreArgs) Writes(dst []Tensor) []Tensor {
	if a.Coef.Valid() {
		return append(dst, a.Dst, a.Coef)
	}
	return append(dst, a.Dst)
}

// Writes appends X.
func (a *HyperPostArgs) Writes(dst []Tensor) []Tensor { return append(dst, a.X) }
