// Package sample draws tokens from logits.
//
// A Sampler is one request's parameters; it has no state. What it needs to know of the past are the tokens so far, and
// its randomness is a function of the seed and the position, so a token does not depend on what else the server does,
// nor on whether earlier tokens were drawn in this run or came from a resumed one.
//
// # The chain
//
// Each stage works on what the one before left (the order of ggml-org/llama.cpp):
//
//	logits of the model
//	  bias         penalties.go  added; -100 bans
//	  penalties    penalties.go  repeat, then frequency and presence, over the last tokens
//	  (greedy ends here: the largest logit, lowest id on a tie)
//	  top-k        filter.go     the k largest
//	  typical-p    typical.go    those whose surprise is nearest the entropy (arXiv 2202.00666)
//	  top-p        filter.go     the smallest set of that probability (arXiv 1904.09751)
//	  min-p        filter.go     those at least so probable as a share of the best (arXiv 2407.01082)
//	  temperature  draw.go       after the filters, so that they see the model's own probabilities
//	  draw         draw.go       by rejection
//
// Wherever logits are compared, the lower id comes first on a tie. So every filter but typical-p is a cut in one total
// order, named by the last token that it leaves, and the result does not depend on the order in which tokens are looked
// at; none needs a sorted vocabulary.
//
// # Parts
//
// The device has cut the vocabulary into parts of some dozen tokens and found the largest logit and the sum of the
// exponentials of each (see Row). That is enough to know what most of the vocabulary comes to without looking at it:
// the best token, the total probability, and that a part whose largest logit is cut has nothing to draw.
package sample
