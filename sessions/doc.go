// Package sessions turns requests into turns of a model and back: it renders the chat template, encodes the text,
// submits the tokens to an engine, and makes text of what comes out, up to a stop string.
//
// A session's token log is what the model saw; text is derived from it, never the other way round. Everything here
// runs on the request's goroutines; the model, the cache and the device are touched by the engine's loop alone.
package sessions
