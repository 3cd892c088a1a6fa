// Package draft guesses how sequences go on, so that a step of the model checks several tokens instead of computing one
// (speculative decoding, arXiv 2211.17192).
//
// # What makes it lossless
//
// A step computes the next token of a sequence and, behind it, the guessed ones. Then the loop draws the token of each
// row with the request's own sampler, as it would without guesses, and goes on to the next row only while what it drew is
// what was guessed. So every token is drawn from the model's distribution after exactly the tokens before it. On a device
// whose rows do not depend on what else a step holds, the answer is the same token by token and bit by bit: greedy or
// drawn, with penalties, stop tokens and log-probabilities. And since the draw of a position depends on the seed and the
// position alone, a seed gives the same tokens with and without speculation.
//
// This is rejection sampling with a proposal that is one token: a guess is accepted with the probability that the model
// gives it. Rejection sampling with a proposal distribution accepts somewhat more of the guesses of a second model, and
// gives other tokens for a seed; what it would gain is had in another way: drafters that are models draw their guess with
// the same sampler, seed and position, so that where the distributions agree the draws do.
//
// # Where guesses come from
//
//	ngram.go    what followed the last tokens when they occurred before, in the prompt, the answer or an expected text
//	model.go    a smaller model of the same vocabulary, or layers of the model that predict further tokens
//
// # When it pays
//
// A row of a step costs time, and a guess may be wrong. Control measures both and chooses how many guesses a step checks,
// possibly none; then it tries one now and then (control.go).
package draft
