package server

import (
	"math"
	"strings"

	"hearth/sessions"
)

// use says what the server does with a request field.
type use uint8

const (
	honoured use = iota // changes the answer as documented
	echoed              // checked, and returned as sent or as it took effect
	ignored             // checked; by its definition it has no effect on a server like this one
	refused             // asks for what this server cannot do; values that ask for nothing are accepted
)

// field is one field of a request body.
type field[T any] struct {
	name string
	use  use
	// read checks the value and stores what matters of it. For a refused field it is asked whether the value asks for
	// nothing: it then returns nil.
	read func(t *T, v value) error
}

// decode reads an object by its table. Every member is in the table or an error; null is the same as absent.
func decode[T any](fields []field[T], v value, t *T) error {
	members, err := v.members()
	if err != nil {
		return err
	}
	for _, m := range members {
		f := find(fields, m.name)
		switch {
		case f == nil:
			return unknown(m.path)
		case m.isNull():
			continue
		}
		if err := f.read(t, m.value); err != nil {
			return err
		}
	}
	return nil
}

func find[T any](fields []field[T], name string) *field[T] {
	for i := range fields {
		if fields[i].name == name {
			return &fields[i]
		}
	}
	return nil
}

// refuse makes the row of a refused field: reason is what the client is told beside its name, and neutral are the JSON
// texts that ask for nothing.
func refuse[T any](name, reason string, neutral ...string) field[T] {
	return field[T]{name: name, use: refused, read: func(_ *T, v value) error {
		if v.equals(neutral...) {
			return nil
		}
		return unsupported(v.path, reason)
	}}
}

// The readers below make the read functions of the tables.

func boolean[T any](set func(*T, bool)) func(*T, value) error {
	return func(t *T, v value) error {
		b, err := v.boolean()
		if err == nil {
			set(t, b)
		}
		return err
	}
}

func integer[T any](low, high int64, set func(*T, int64)) func(*T, value) error {
	return func(t *T, v value) error {
		n, err := v.integer(low, high)
		if err == nil {
			set(t, n)
		}
		return err
	}
}

func number[T any](low, high float64, set func(*T, float64)) func(*T, value) error {
	return func(t *T, v value) error {
		f, err := v.number(low, high)
		if err == nil {
			set(t, f)
		}
		return err
	}
}

func text[T any](set func(*T, string)) func(*T, value) error {
	return func(t *T, v value) error {
		s, err := v.text()
		if err == nil {
			set(t, s)
		}
		return err
	}
}

// atMost reads a string of limited length that nothing is done with.
func atMost[T any](characters int) func(*T, value) error {
	return func(_ *T, v value) error {
		s, err := v.text()
		if err == nil && len([]rune(s)) > characters {
			err = v.invalid("may have %d characters, has %d", characters, len([]rune(s)))
		}
		return err
	}
}

// maxTokensField bounds token counts: more than any context, and far from overflow.
const maxTokensField = math.MaxInt32

// sharedFields are the fields that chat completions and completions have in common: OpenAI's, then what other
// servers' clients send.
var sharedFields = []field[generation]{
	{name: "model", use: honoured, read: readModel},
	{name: "stream", use: honoured, read: boolean(func(g *generation, b bool) { g.stream = b })},
	{name: "stream_options", use: honoured, read: readStreamOptions},
	{name: "n", use: honoured, read: integer(1, 128, func(g *generation, n int64) { g.n = int(n) })},
	{name: "stop", use: honoured, read: readStop},
	{name: "seed", use: honoured, read: integer(math.MinInt64, math.MaxInt64, func(g *generation, n int64) { g.turn.Sampling.Seed, g.seeded = uint64(n), true })},
	{name: "temperature", use: honoured, read: number(0, 2, func(g *generation, f float64) { g.turn.Sampling.Temperature = float32(f) })},
	{name: "top_p", use: honoured, read: number(0, 1, setTopP)},
	{name: "frequency_penalty", use: honoured, read: number(-2, 2, func(g *generation, f float64) { g.turn.Sampling.FrequencyPenalty = float32(f) })},
	{name: "presence_penalty", use: honoured, read: number(-2, 2, func(g *generation, f float64) { g.turn.Sampling.PresencePenalty = float32(f) })},
	{name: "logit_bias", use: honoured, read: readLogitBias},
	{name: "user", use: ignored, read: text(func(*generation, string) {})}, // names an end user for the operator's own purposes

	{name: "top_k", use: honoured, read: integer(-1, maxTokensField, func(g *generation, n int64) { g.turn.Sampling.TopK = int(max(n, 0)) })},
	{name: "min_p", use: honoured, read: number(0, 1, func(g *generation, f float64) { g.turn.Sampling.MinP = float32(f) })},
	{name: "typical_p", use: honoured, read: number(0, 1, func(g *generation, f float64) { g.turn.Sampling.TypicalP = float32(f) })},
	{name: "repetition_penalty", use: honoured, read: number(leastPenalty, mostPenalty, setRepeatPenalty)},
	{name: "repeat_penalty", use: honoured, read: number(leastPenalty, mostPenalty, setRepeatPenalty)},
	{name: "repeat_last_n", use: honoured, read: integer(-1, maxTokensField, setRepeatLastN)},
	{name: "ignore_eos", use: honoured, read: boolean(func(g *generation, b bool) { g.turn.IgnoreEOS = b })},
	{name: "min_tokens", use: honoured, read: integer(0, maxTokensField, func(g *generation, n int64) { g.turn.MinTokens = int(n) })},
	{name: "priority", use: honoured, read: integer(math.MinInt32, math.MaxInt32, func(g *generation, n int64) { g.turn.Priority = int(n) })},
	{name: "cache_prompt", use: honoured, read: boolean(func(g *generation, b bool) { g.unshared = !b })},
	{name: "keep_alive", use: ignored, read: readKeepAlive[generation]}, // models stay loaded as long as the server runs

	refuse[generation]("return_tokens", "", "false"),
	refuse[generation]("return_token_ids", "", "false"),
	refuse[generation]("timings_per_token", "", "false"),
	refuse[generation]("return_progress", "", "false"),
	refuse[generation]("id_slot", "sequences have no fixed slots", "-1"),
	refuse[generation]("session_id", ""),
	refuse[generation]("lora", "", "[]"),
	refuse[generation]("dry_multiplier", "", "0", "0.0"),
	refuse[generation]("dry_base", ""),
	refuse[generation]("dry_allowed_length", ""),
	refuse[generation]("dry_penalty_last_n", ""),
	refuse[generation]("dry_sequence_breakers", ""),
	refuse[generation]("xtc_probability", "", "0", "0.0"),
	refuse[generation]("xtc_threshold", ""),
	refuse[generation]("mirostat", "", "0"),
	refuse[generation]("mirostat_tau", ""),
	refuse[generation]("mirostat_eta", ""),
	refuse[generation]("grammar", "", `""`),
	refuse[generation]("json_schema", ""),
	refuse[generation]("guided_json", ""),
	refuse[generation]("guided_regex", ""),
	refuse[generation]("guided_choice", ""),
	refuse[generation]("guided_grammar", ""),
	refuse[generation]("structured_outputs", ""),
	refuse[generation]("ebnf", ""),
	refuse[generation]("regex", ""),
}

// chatFields is the body of POST /v1/chat/completions.
var chatFields = append([]field[generation]{
	{name: "messages", use: honoured, read: readMessages},
	{name: "max_completion_tokens", use: honoured, read: integer(1, maxTokensField, func(g *generation, n int64) { g.maxCompletionTokens = int(n) })},
	{name: "max_tokens", use: honoured, read: integer(1, maxTokensField, func(g *generation, n int64) { g.turn.MaxTokens = int(n) })},
	{name: "logprobs", use: honoured, read: boolean(func(g *generation, b bool) { g.logprobs = b })},
	{name: "top_logprobs", use: honoured, read: integer(0, 20, func(g *generation, n int64) { g.topLogprobs = int(n) })},
	{name: "chat_template_kwargs", use: honoured, read: readTemplateVars},
	{name: "reasoning_effort", use: honoured, read: readEffort},
	{name: "prediction", use: honoured, read: readPrediction},
	{name: "store", use: honoured, read: boolean(func(g *generation, b bool) { g.store = b })},
	{name: "metadata", use: echoed, read: readMetadata},
	{name: "service_tier", use: echoed, read: func(g *generation, v value) error {
		_, err := v.oneOf("auto", "default", "flex", "scale", "priority", "fast")
		g.serviceTier = "default" // there is one, and the answer says which one served it
		return err
	}},
	{name: "safety_identifier", use: ignored, read: atMost[generation](maxNameLen)},
	{name: "prompt_cache_key", use: ignored, read: text(func(*generation, string) {})}, // a hint; prefixes are found by their tokens
	{name: "prompt_cache_retention", use: ignored, read: func(_ *generation, v value) error { // a longest time, which less keeps
		_, err := v.oneOf("in_memory", "24h")
		return err
	}},
	{name: "tools", use: honoured, read: readTools},
	{name: "tool_choice", use: honoured, read: readChatToolChoice},
	{name: "parallel_tool_calls", use: honoured, read: boolean(func(g *generation, b bool) { g.turn.OneCall = !b })},

	refuse[generation]("prompt_cache_options", "", `{}`, `{"mode":"implicit"}`),
	refuse[generation]("functions", "tools took their place", "[]"),
	refuse[generation]("function_call", "tool_choice took its place", `"none"`, `"auto"`),
	refuse[generation]("response_format", "only text is produced", `{"type":"text"}`),
	refuse[generation]("modalities", "only text is produced", `["text"]`),
	refuse[generation]("audio", "only text is produced"),
	refuse[generation]("thinking_budget", ""),
	refuse[generation]("reasoning_budget", "", "-1"),
	refuse[generation]("verbosity", "", `"medium"`),
	refuse[generation]("web_search_options", ""),
	refuse[generation]("moderation", ""),
	refuse[generation]("continue_final_message", "", "false"),
	refuse[generation]("add_generation_prompt", "", "true"),
}, sharedFields...)

// completionFields is the body of POST /v1/completions.
var completionFields = append([]field[generation]{
	{name: "prompt", use: honoured, read: readPrompts},
	{name: "max_tokens", use: honoured, read: integer(0, maxTokensField, func(g *generation, n int64) { g.turn.MaxTokens, g.turn.NoOutput = int(n), n == 0 })},
	{name: "logprobs", use: honoured, read: integer(0, 5, func(g *generation, n int64) { g.logprobs, g.topLogprobs = true, int(n) })},
	{name: "echo", use: honoured, read: boolean(func(g *generation, b bool) { g.turn.Echo = b })},
	{name: "suffix", use: honoured, read: text(func(g *generation, s string) { g.turn.Suffix = s })},
	{name: "best_of", use: honoured, read: integer(0, 20, func(g *generation, n int64) { g.bestOf = int(n) })},
}, sharedFields...)

// maxNameLen is OpenAI's limit of a safety_identifier.
const maxNameLen = 64

// Bounds of the repetition penalty: it divides logits, and beyond these it only makes infinities.
const leastPenalty, mostPenalty = 0.01, 100

func readModel(g *generation, v value) error {
	s, err := v.text()
	if err == nil && s == "" {
		err = v.invalid("is empty")
	}
	g.turn.Model = s
	return err
}

// setTopP keeps a top_p of 0 distinct from an absent one: it asks for the most probable token alone.
func setTopP(g *generation, f float64) {
	g.turn.Sampling.TopP = max(float32(f), math.SmallestNonzeroFloat32)
}

func setRepeatPenalty(g *generation, f float64) { g.turn.Sampling.RepeatPenalty = float32(f) }

// setRepeatLastN takes the wire's meaning of 0, which is that no penalty sees any token.
func setRepeatLastN(g *generation, n int64) {
	g.turn.Sampling.RepeatLastN, g.noPenalties = int(n), n == 0
}

// maxStops is OpenAI's limit.
const maxStops = 4

func readStop(g *generation, v value) error { return readStops(g, v, maxStops) }

func readStops(g *generation, v value, most int) error {
	list := []value{v}
	if v.isArray() {
		var err error
		if list, err = v.elements(); err != nil {
			return err
		}
		if len(list) > most {
			return v.invalid("may have %d strings, has %d", most, len(list))
		}
	} else if !v.isText() {
		return v.wrongType("a string or an array of strings")
	}
	for _, e := range list {
		s, err := e.text()
		switch {
		case err != nil:
			return err
		case s == "":
			return e.invalid("is empty")
		}
		g.turn.Stop = append(g.turn.Stop, s)
	}
	return nil
}

func readLogitBias(g *generation, v value) error {
	members, err := v.members()
	if err != nil {
		return err
	}
	bias := make(map[int32]float32, len(members))
	for _, m := range members {
		id, err := (value{m.path, []byte(strings.TrimSpace(m.name))}).tokenID()
		if err != nil {
			return err
		}
		f, err := m.number(-100, 100)
		if err != nil {
			return err
		}
		bias[id] = float32(f)
	}
	g.turn.Sampling.LogitBias = bias
	return nil
}

// tokenID reads a token id written as a number; the engine knows the vocabulary's end.
func (v value) tokenID() (int32, error) {
	id := int64(0)
	for _, c := range v.raw {
		if c < '0' || c > '9' || id > math.MaxInt32 {
			return 0, v.invalid("is not named by a token id")
		}
		id = id*10 + int64(c-'0')
	}
	if len(v.raw) == 0 || id > math.MaxInt32 {
		return 0, v.invalid("is not named by a token id")
	}
	return int32(id), nil
}

// streamOptionFields is the object stream_options.
var streamOptionFields = []field[generation]{
	{name: "include_usage", use: honoured, read: boolean(func(g *generation, b bool) { g.includeUsage = b })},
	{name: "include_obfuscation", use: honoured, read: boolean(func(g *generation, b bool) { g.obfuscate = b })},
}

func readStreamOptions(g *generation, v value) error {
	g.streamOptions = true
	return decode(streamOptionFields, v, g)
}

func readTemplateVars(g *generation, v value) error {
	if _, err := v.members(); err != nil {
		return err
	}
	g.turn.TemplateVars = v.raw
	return nil
}

// readEffort reads how much the model is to think. A model that has no levels thinks at all of them but none.
func readEffort(g *generation, v value) (err error) {
	g.turn.Effort, err = v.oneOf(sessions.Efforts...)
	return err
}

// Limits of metadata (OpenAI's API reference).
const maxMetadata, maxMetadataKey, maxMetadataValue = 16, 64, 512

func readMetadata(g *generation, v value) error {
	g.metadata = v.raw
	return checkMetadata(v)
}

func checkMetadata(v value) error {
	members, err := v.members()
	if err != nil {
		return err
	}
	if len(members) > maxMetadata {
		return v.invalid("may have %d entries, has %d", maxMetadata, len(members))
	}
	for _, m := range members {
		if n := len([]rune(m.name)); n > maxMetadataKey {
			return v.invalid("has a key of %d characters, %d are allowed", n, maxMetadataKey)
		}
		s, err := m.text()
		if err != nil {
			return err
		}
		if n := len([]rune(s)); n > maxMetadataValue {
			return m.invalid("may have %d characters, has %d", maxMetadataValue, n)
		}
	}
	return nil
}

// noTime are the JSON texts of a keep_alive of 0.
var noTime = []string{"0", "0.0", `"0"`, `"0s"`, `"0m"`, `"0h"`}

// readKeepAlive accepts every wish that a model stays, and refuses the one that it goes.
func readKeepAlive[T any](_ *T, v value) error {
	switch {
	case !v.isText() && !v.isNumber():
		return v.wrongType("a duration: a string or a number of seconds")
	case v.equals(noTime...):
		return unsupported(v.path, "models stay loaded as long as the server runs")
	}
	return nil
}
