package hardware

// Plain reports whether an operation is in the form that dense transformers and plain mixtures of experts use, so that a
// device may claim that form alone: one pair of streams to attend over, root mean square norms, SiLU.
func (p *Program) Plain(args Args) bool {
	switch a := args.(type) {
	case *EmbedArgs, *StoreArgs, *AddArgs, *SoftmaxPartsArgs:
		return true
	case *NormArgs:
		return a.Norm == RMSNorm && a.Weight.Valid() && !a.Bias.Valid() && a.Scale == 1
	case *MatMulArgs:
		return p.WeightInfo(a.W).Experts == 0
	case *RoPEArgs:
		return !a.Inverse
	case *AttentionArgs:
		s := &a.Sources[0]
		return len(a.Sources) == 1 && !a.Sinks.Valid() && !s.Ring.Valid() && !s.Selection.Valid() && s.Window == 0 &&
			p.StreamInfo(s.K).Class == KeyStream && p.StreamInfo(s.V).Class == ValueStream &&
			p.StreamInfo(s.K).Ratio == 1 && s.ValueDim == p.StreamInfo(s.V).Dim
	case *GLUArgs:
		return a.Act == SiLU && a.Limit == 0 && a.Gate.Size() == a.Up.Size()
	case *GatherArgs:
		return !a.ByInputs
	case *RouteArgs:
		return a.Score == ScoreSoftmax && !a.Bias.Valid() && a.Groups == 1 && a.Table == nil
	case *ExpertsArgs:
		return a.Act == SiLU && a.Limit == 0
	}
	return false
}
