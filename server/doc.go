// Package server speaks HTTP for a sessions.Store: OpenAI's responses, conversations, chat completions, completions and models, Ollama's chat,
// generate and models, tokenizing, health and metrics. It knows wire formats and nothing of models.
//
// A request takes this way, always on its own goroutine:
//
//	handler (server.go)    request id, headers; at the end one log line and the metrics; a panic becomes a 500
//	admit (auth.go)        Host and Origin, then the key that the route's scope asks for
//	readBody (body.go)     content type, size, time; JSON whose keys are unique
//	decode (fields.go)     one table per body: every field is honoured, ignored by definition, or refused by name
//	start (generation.go)  sessions.Store.Run; from here on the answer is a sequence of pieces
//	write (stream.go)      events as they come, or one answer at the end
//
// An error before the first byte is a status with a body in the caller's format (errors.go holds the only table of
// them); after the first byte it is the stream's last event.
//
// The package reads no flags and no environment: Options carry everything.
package server
