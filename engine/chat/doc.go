// Package chat turns conversations into prompts, with the template that a model carries, and takes replies apart into
// reasoning, text and tool calls.
//
// New compiles a template and finds out what it takes: whether tool-call arguments have to be objects or JSON text,
// whether message contents may be lists of parts, how an assistant message without content has to look, whether it knows
// the developer role. Render then gives it messages in that form, whichever form a client sent.
//
// What a client sends is untrusted: a message may contain the text of a control token. Render passes every piece of the
// prompt that came from the request through Prompt.Guard, so that the tokenizer can tell it from what the template
// wrote. See package jinja for how text keeps its origin.
//
// Families of models write tool calls in forms of their own, the dialects. A template's is found by letting the template
// write a call and seeing which dialect reads it back, so that no model is known by its name. In the same way New finds
// which variables let a model think or not, and whether prompts show tools at all; where they do not, Render describes
// them in the system message. Parser reads replies as they come; see there what counts as a call.
package chat
