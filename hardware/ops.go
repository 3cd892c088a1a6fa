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
	OpCopy
	OpConv
	OpDeltaRule
	OpSelect
	OpCompress
	OpRemember
	OpHyperPre
	OpHyperPost
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
	return [...]string{
		"Embed", "Norm", "MatMul", "RoPE", "Store", "Attention", "GLU", "Add", "Gather", "Route", "Experts", "SoftmaxParts",
		"Copy", "Conv", "DeltaRule", "Select", "Compress", "Remember", "HyperPre", "HyperPost",
	}[k]
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

// NormKind says how a norm measures its group.
type NormKind uint8

// The norms.
const (
	RMSNorm   NormKind = iota // x / sqrt(mean(x^2) + Eps), root mean square normalisation (arXiv 1910.07467)
	LayerNorm                 // (x - mean(x)) / sqrt(variance(x) + Eps), layer normalisation (arXiv 1607.06450)
	L2Norm                    // x / sqrt(sum(x^2) + Eps)
)

// NormArgs is normalisation of groups of columns: Dst = normalised X * Scale * Weight + Bias. The group is one head of
// X, so a plain view normalises the whole row and a view with heads each head by itself, with one shared weight.
type NormArgs struct {
	Norm   NormKind
	X, Dst Tensor  // same shape; may be the same view
	Weight Weight  // [1, dim]; the zero handle: 1
	Bias   Weight  // [1, dim]; the zero handle: 0
	Scale  float32 // 0 means 1
	Eps    float32
}

// MatMulArgs multiplies rows with a weight: Dst = Scale * (W X) + Bias, or Dst += with Accumulate. A stack of matrices
// multiplies each head of a row with its own: Dst[h] = W[h] X[h].
type MatMulArgs struct {
	X          Tensor // [rows, in], contiguous; for a stack [rows, experts, in]
	W          Weight // [out, in], or a stack [experts, out, in]
	Dst        Tensor // [rows, out], contiguous; for a stack [rows, experts, out]
	Accumulate bool   // not for a stack
}

// RoPEArgs rotates pairs of the first elements of each head by the position of the row (see RopeInfo).
type RoPEArgs struct {
	X, Dst  Tensor // [tokens, heads, dim]; may be the same view
	Rope    Rope
	Inverse bool // rotate back: by minus the position
}

// StoreArgs writes rows into a stream at the position of each token, converted to the cache's format.
type StoreArgs struct {
	X      Tensor // [tokens, heads, dim]
	Stream Stream // of the same heads and dim
}

// Source is a set of entries that attention reads, in order of their positions: the rows of streams, or the latest rows
// of a tensor with those before the step from a ring.
type Source struct {
	K, V      Stream    // stored before this operation, the rows of this step included; the same stream twice for latents
	ValueDim  int       // leading elements of V's heads that are values; 0: all
	Selection Selection // entries to read, of those that are visible; the zero handle: all
	Window    int       // latest positions to read of streams with a row for each, the own included; 0: all

	// Or, instead of streams: keys and values in one, one head.
	Recent Tensor // [tokens, dim], the rows of this step
	Ring   Ring   // of the same dim; holds the rows before this step. The window is its Reach + 1 positions, the own included
}

// AttentionArgs is causal softmax attention (arXiv 1706.03762 §3.2.1) of each token over the visible entries of all
// sources together: Dst = softmax(Scale * Q K^T) V. Query head h reads head h / (heads of Q / heads of K) (arXiv
// 2305.13245). Entry e of a stream is visible to position p when e < (p+1) / Ratio, integer division.
type AttentionArgs struct {
	Q       Tensor // [tokens, heads, key dim]
	Sources []Source
	Scale   float32
	Sinks   Weight // [1, heads]: one logit more in the denominator of each head, without a value; the zero handle: none
	Dst     Tensor // [tokens, heads, value dim]
}

// Activation is the non-linearity of a gated linear unit.
type Activation uint8

// The activations.
const (
	SiLU    Activation = iota // x * sigmoid(x)
	Sigmoid                   // 1 / (1 + e^-x)
	// OAI is x * sigmoid(1.702 x), and Up + 1 instead of Up.
	OAI
)

// GLUArgs is a gated linear unit (arXiv 2002.05202): Dst = act(Gate) * Up. With a Limit above 0 Gate is first cut to at
// most Limit, Up to -Limit…Limit.
type GLUArgs struct {
	Act      Activation
	Limit    float32
	Gate, Up Tensor // [rows, dim]; Gate may be [rows, 1]: one factor for the row
	Dst      Tensor // [rows, dim]; may be Gate or Up
}

// AddArgs is Dst += X.
type AddArgs struct {
	X, Dst Tensor // same shape
}

// GatherArgs copies rows: those whose outputs were asked for, Dst[r] = X[Batch.Outputs[r]], or, with ByInputs, those of a
// carried tensor that a section begins with, Dst[r] = X[Batch.Inputs[r]].
type GatherArgs struct {
	X        Tensor // [tokens, dim]
	ByInputs bool
	Dst      Tensor // [outputs, dim]; with ByInputs [tokens, dim]
}

// CopyArgs is Dst = X. An X of one head is copied to every head of Dst.
type CopyArgs struct {
	X, Dst Tensor // same shape, or X with one head
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

// RouteScore says how router logits become the experts' scores.
type RouteScore uint8

// The scores, numbered as expert_gating_func of GGUF files minus 1.
const (
	ScoreSoftmax      RouteScore = iota // over all experts
	ScoreSigmoid                        // of each logit
	ScoreSelected                       // softmax over the chosen experts' logits
	ScoreSqrtSoftplus                   // sqrt(ln(1 + e^x)) of each logit
)

// RouteArgs chooses the TopK experts of a row: those with the largest score + Bias, the lower index on a tie. Their
// weights are their scores, without the bias, in the order of choice; with Normalize divided by their sum + 1e-20, the
// sum of scores too small for float32 being 0; times Scale.
//
// With Groups above 1 the experts are cut into groups of equal size, and only those of the UsedGroups best groups take
// part: a group ranks by its largest score + Bias, or, with PairRank, by the sum of its two largest. With a Table the row's
// token names its experts, and only the weights come from the logits.
type RouteArgs struct {
	Logits             Tensor // [rows, experts]
	Score              RouteScore
	Bias               Weight // [1, experts]; the zero handle: 0
	TopK               int
	Groups, UsedGroups int
	PairRank           bool
	Table              []int32 // [vocab, TopK], rows are tokens; nil: none
	Normalize          bool
	Scale              float32 // 0 means 1
	Dst                Routes
}

// ExpertsArgs adds the chosen experts: Dst += sum over ranks i, ascending, of w_i * Down_e(GLU(Gate_e X, Up_e X)), with the
// gated linear unit of GLUArgs.
type ExpertsArgs struct {
	X              Tensor // [rows, in]
	Routes         Routes
	Gate, Up, Down Weight // stacked: [experts, ffn, in] twice, [experts, in, ffn]
	Act            Activation
	Limit          float32
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

// Reads appends Q and the sources' rows of this step.
func (a *AttentionArgs) Reads(dst []Tensor) []Tensor {
	dst = append(dst, a.Q)
	for i := range a.Sources {
		if a.Sources[i].Recent.Valid() {
			dst = append(dst, a.Sources[i].Recent)
		}
	}
	return dst
}

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
