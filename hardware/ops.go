package hardware

// OpKind names an operation.
type OpKind uint8

// The operations, in the order of a forward pass.
const (
	OpEmbed OpKind = iota
	OpNorm
	OpMatMul
	OpRoPE
	OpStore
	OpAttention
	OpGLU
	OpAdd
	OpGather
	OpRoute
	OpExperts
	OpSoftmaxParts
	numOps
)

// OpKinds lists all operations.
func OpKinds() []OpKind {
	kinds := make([]OpKind, numOps)
	for i := range kinds {
		kinds[i] = OpKind(i)
	}
	return kinds
}

// String returns the name of the operation.
func (k OpKind) String() string {
	return [...]string{"Embed", "Norm", "MatMul", "RoPE", "Store", "Attention", "GLU", "Add", "Gather", "Route", "Experts", "SoftmaxParts"}[k]
}

// Args are the arguments of one operation; the types are the …Args of this package.
type Args interface {
	Kind() OpKind
	// Reads appends the views that the operation reads, Writes those it writes. An operation that updates a view in
	// place lists it in both.
	Reads(dst []Tensor) []Tensor
	Writes(dst []Tensor) []Tensor
}

// EmbedArgs looks up table rows: Dst[t] = Table[token t].
type EmbedArgs struct {
	Table Weight // [vocab, dim]
	Dst   Tensor // [tokens, dim]
}

// NormArgs is root mean square normalisation (arXiv 1910.07467) of groups of columns:
// Dst = X * Weight / sqrt(mean(X^2) + Eps). The group is one head of X, so a plain view normalises the whole row and a
// view with heads each head by itself, with one shared weight.
type NormArgs struct {
	X, Dst Tensor // same shape; may be the same view
	Weight Weight // [1, dim]
	Eps    float32
}

// MatMulArgs multiplies rows with a weight: Dst = Scale * (W X) + Bias, or Dst += with Accumulate.
type MatMulArgs struct {
	X          Tensor // [rows, in]
	W          Weight // [out, in]
	Dst        Tensor // [rows, out]
	Accumulate bool
}

// RoPEArgs rotates pairs of the first elements of each head by the position of the row (see RopeInfo).
type RoPEArgs struct {
	X, Dst Tensor // [tokens, heads, dim]; may be the same view
	Rope   Rope
}

// StoreArgs writes rows into a stream at the position of each token, converted to the cache's format.
type StoreArgs struct {
	X      Tensor // [tokens, heads, dim]
	Stream Stream // of the same heads and dim
}

// AttentionArgs is causal softmax attention (arXiv 1706.03762 §3.2.1) of each token over positions 0 to its own:
// Dst = softmax(Scale * Q K^T) V. Query head h reads head h / (heads of Q / heads of K) (arXiv 2305.13245).
type AttentionArgs struct {
	Q     Tensor // [tokens, heads, key dim]
	K, V  Stream // stored before this operation, the rows of this step included
	Scale float32
	Dst   Tensor // [tokens, heads, value dim]
}

// Activation is the non-linearity of a gated linear unit.
type Activation uint8

// SiLU is x * sigmoid(x).
const SiLU Activation = 0

// GLUArgs is a gated linear unit (arXiv 2002.05202): Dst = act(Gate) * Up.
type GLUArgs struct {
	Act      Activation
	Gate, Up Tensor // [rows, dim]
	Dst      Tensor // [rows, dim]; may be Gate or Up
}

// AddArgs is Dst += X.
type AddArgs struct {
	X, Dst Tensor // same shape
}

// GatherArgs copies the rows whose outputs were asked for: Dst[r] = X[Batch.Outputs[r]].
type GatherArgs struct {
	X   Tensor // [tokens, dim]
	Dst Tensor // [outputs, dim]
}

// Routes is a handle of the chosen experts of each row and their weights.
type Routes struct{ id int32 }

// Index is the position of the routes in declaration order, from 0.
func (r Routes) Index() int { return int(r.id) - 1 }

// RoutesInfo gives the sizes of routes.
type RoutesInfo struct {
	Rows    Rows
	Experts int // number of experts
	TopK    int // experts chosen for a row
}

// RouteArgs chooses the TopK experts of a row: softmax over all logits, the largest first (lower index on a tie), their
// weights divided by their sum with Normalize, times Scale.
type RouteArgs struct {
	Logits    Tensor // [rows, experts]
	TopK      int
	Normalize bool
	Scale     float32 // 0 means 1
	Dst       Routes
}

// ExpertsArgs adds the chosen experts: Dst += sum over ranks i, ascending, of w_i * Down_e(act(Gate_e X) * Up_e X).
type ExpertsArgs struct {
	X              Tensor // [rows, in]
	Routes         Routes
	Gate, Up, Down Weight // stacked: [experts, ffn, in] twice, [experts, in, ffn]
	Act            Activation
	Dst            Tensor // [rows, in]
}

// PartLen is the number of columns in a part of SoftmaxParts: so few that drawing a token can look at all of a part, so
// many that a vocabulary has only some thousand parts.
const PartLen = 64

// NumParts returns into how many parts SoftmaxParts cuts rows of so many columns.
func NumParts(cols int) int { return (cols + PartLen - 1) / PartLen }

// SoftmaxPartsArgs cuts rows into parts of PartLen columns, the last one perhaps shorter, and takes of each what a softmax
// over any number of them needs, as the softmax in one pass does (arXiv 1805.02867 §3): the largest element m and the sum
// of e^(x-m), each part by itself. The sum is 0 where all elements are minus infinity, and not a number where one is not,
// or is plus infinity; m means nothing then.
type SoftmaxPartsArgs struct {
	X   Tensor // [rows, cols]
	Dst Tensor // [rows, parts, 2]: m, sum
}

// Kind returns OpEmbed.
func (*EmbedArgs) Kind() OpKind { return OpEmbed }

// Kind returns OpNorm.
func (*NormArgs) Kind() OpKind { return OpNorm }

// Kind returns OpMatMul.
func (*MatMulArgs) Kind() OpKind { return OpMatMul }

// Kind returns OpRoPE.
func (*RoPEArgs) Kind() OpKind { return OpRoPE }

// Kind returns OpStore.
func (*StoreArgs) Kind() OpKind { return OpStore }

// Kind returns OpAttention.
func (*AttentionArgs) Kind() OpKind { return OpAttention }

// Kind returns OpGLU.
func (*GLUArgs) Kind() OpKind { return OpGLU }

// Kind returns OpAdd.
func (*AddArgs) Kind() OpKind { return OpAdd }

// Kind returns OpGather.
func (*GatherArgs) Kind() OpKind { return OpGather }

// Kind returns OpRoute.
func (*RouteArgs) Kind() OpKind { return OpRoute }

// Kind returns OpExperts.
func (*ExpertsArgs) Kind() OpKind { return OpExperts }

// Kind returns OpSoftmaxParts.
func (*SoftmaxPartsArgs) Kind() OpKind { return OpSoftmaxParts }

// Reads appends nothing: the tokens come from the batch.
func (*EmbedArgs) Reads(dst []Tensor) []Tensor { return dst }

// Reads appends X.
func (a *NormArgs) Reads(dst []Tensor) []Tensor { return append(dst, a.X) }

// Reads appends X, and Dst when accumulating.
func (a *MatMulArgs) Reads(dst []Tensor) []Tensor {
	if a.Accumulate {
		return append(dst, a.X, a.Dst)
	}
	return append(dst, a.X)
}

// Reads appends X.
func (a *RoPEArgs) Reads(dst []Tensor) []Tensor { return append(dst, a.X) }

// Reads appends X.
func (a *StoreArgs) Reads(dst []Tensor) []Tensor { return append(dst, a.X) }

// Reads appends Q.
func (a *AttentionArgs) Reads(dst []Tensor) []Tensor { return append(dst, a.Q) }

// Reads appends Gate and Up.
func (a *GLUArgs) Reads(dst []Tensor) []Tensor { return append(dst, a.Gate, a.Up) }

// Reads appends X and Dst.
func (a *AddArgs) Reads(dst []Tensor) []Tensor { return append(dst, a.X, a.Dst) }

// Reads appends X.
func (a *GatherArgs) Reads(dst []Tensor) []Tensor { return append(dst, a.X) }

// Reads appends Logits.
func (a *RouteArgs) Reads(dst []Tensor) []Tensor { return append(dst, a.Logits) }

// Reads appends X and Dst.
func (a *ExpertsArgs) Reads(dst []Tensor) []Tensor { return append(dst, a.X, a.Dst) }

// Reads appends X.
func (a *SoftmaxPartsArgs) Reads(dst []Tensor) []Tensor { return append(dst, a.X) }

// Writes appends Dst.
func (a *EmbedArgs) Writes(dst []Tensor) []Tensor { return append(dst, a.Dst) }

// Writes appends Dst.
func (a *NormArgs) Writes(dst []Tensor) []Tensor { return append(dst, a.Dst) }

// Writes appends Dst.
func (a *MatMulArgs) Writes(dst []Tensor) []Tensor { return append(dst, a.Dst) }

// Writes appends Dst.
func (a *RoPEArgs) Writes(dst []Tensor) []Tensor { return append(dst, a.Dst) }

// Writes appends nothing: the stream is not a tensor.
func (*StoreArgs) Writes(dst []Tensor) []Tensor { return dst }

// Writes appends Dst.
func (a *AttentionArgs) Writes(dst []Tensor) []Tensor { return append(dst, a.Dst) }

// Writes appends Dst.
func (a *GLUArgs) Writes(dst []Tensor) []Tensor { return append(dst, a.Dst) }

// Writes appends Dst.
func (a *AddArgs) Writes(dst []Tensor) []Tensor { return append(dst, a.Dst) }

// Writes appends Dst.
func (a *GatherArgs) Writes(dst []Tensor) []Tensor { return append(dst, a.Dst) }

// Writes appends nothing: routes are not a tensor.
func (*RouteArgs) Writes(dst []Tensor) []Tensor { return dst }

// Writes appends Dst.
func (a *ExpertsArgs) Writes(dst []Tensor) []Tensor { return append(dst, a.Dst) }

// Writes appends Dst.
func (a *SoftmaxPartsArgs) Writes(dst []Tensor) []Tensor { return append(dst, a.Dst) }
