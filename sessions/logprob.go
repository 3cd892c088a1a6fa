package sessions

import (
	"encoding/json"
	"math"
)

// leastLogprob stands for minus infinity, which JSON cannot say (OpenAI's API writes the same number).
const leastLogprob = -9999

// wireLogprob is a token's log-probability in OpenAI's API; alternatives have no alternatives of their own.
type wireLogprob struct {
	Token       string         `json:"token"`
	Logprob     float32        `json:"logprob"`
	Bytes       []int          `json:"bytes"` // encoding/json would write bytes in base64
	TopLogprobs *[]wireLogprob `json:"top_logprobs,omitempty"`
}

// MarshalJSON writes the form of OpenAI's API.
func (t TokenLogprob) MarshalJSON() ([]byte, error) {
	wire := newWireLogprob(&t)
	top := make([]wireLogprob, len(t.Top))
	for i := range t.Top {
		top[i] = newWireLogprob(&t.Top[i])
	}
	wire.TopLogprobs = &top
	return json.Marshal(wire)
}

func newWireLogprob(t *TokenLogprob) wireLogprob {
	wire := wireLogprob{Token: t.Text, Logprob: t.Logprob, Bytes: make([]int, len(t.Bytes))}
	if wire.Logprob < leastLogprob || math.IsNaN(float64(wire.Logprob)) {
		wire.Logprob = leastLogprob
	}
	for i, b := range t.Bytes {
		wire.Bytes[i] = int(b)
	}
	return wire
}
