// Package sessions turns requests into turns of a model and back: it renders the chat template, encodes the text,
// submits the tokens to an engine, and makes text of what comes out, up to a stop string.
//
// A session's token log is what the model saw; text is derived from it, never the other way round. Everything here
// runs on the request's goroutines; the model, the cache and the device are touched by the engine's loop alone.
//
// # From a turn to its prompt
//
//	messages ─ template ─ guarded text ─ parts ─ tokens
//	                                      │
//	     the turn's log, remembered answers (spelling.go)
//
// What was computed of a conversation is found by its tokens, and the text of an answer may be encoded to others than the
// model drew. So a prompt is spelled with the tokens of the turn before, and with those of answers that were drawn after the
// same text, wherever they say what the prompt says. These invariants hold whatever a client sends:
//
//  1. The prompt says what the template rendered. The one exception are answers with tool calls, which clients and
//     templates write in their own words: there the prompt has what the model drew, if both, read as replies, have the same
//     calls, text and reasoning (recall.go).
//  2. Its reserved tokens are those of the rendered text, in the same order: what a client sends becomes none, whatever it
//     looks like.
//  3. A tenant's prompts are spelled with the tenant's own tokens, and those of a salt with the salt's.
//
// Answers are remembered in memory, and in the database where their text would not do, sealed for their tenant (anchors.go,
// answers.go). They go with what they are of when that is deleted. What is forgotten costs time: it is encoded and computed
// again.
package sessions
