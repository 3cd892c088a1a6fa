// Package scripttest writes models that say what a script says, for tests of everything that reads what models say: their
// reasoning, their tool calls. What such a model says next depends on the last token alone.
package scripttest

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hearth/engine/weights"
)

// Template ends a prompt with the contents of the last message, so that it is the cue of a script. It shows tools, reasoning
// of all messages, and calls in the form of Hermes.
const Template = `{% if tools %}{{ tools | tojson }}{% endif %}
{% for m in messages %}<{{ m.role }}>{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content or '' }}
{% for c in m.tool_calls %}<tool_call>{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}</tool_call>{% endfor %}
{% endfor %}{% if add_generation_prompt %}<assistant>{{ '<think>' if enable_thinking else '' }}{{ messages[-1].content }}{% endif %}`

// The context of the models that Write writes.
const contextLength = 4096

// Write writes a model with a chat template and returns the path of its file. A script is a cue, which is the end of a
// prompt, and what the model says then, a token each. A text that is in several places goes on the same way everywhere.
// Texts like "<|name|>" are control tokens.
func Write(t testing.TB, template string, scripts ...[]string) string {
	t.Helper()
	v := newVocabulary()
	next := map[int]int{}
	for _, script := range scripts {
		for i := range script {
			from, to := v.add(script[i]), endToken
			if i+1 < len(script) {
				to = v.add(script[i+1])
			}
			if known, ok := next[from]; ok && known != to {
				t.Fatalf("scripttest: %q is followed by %q and by %q", script[i], v.tokens[known], v.tokens[to])
			}
			next[from] = to
		}
	}
	path := filepath.Join(t.TempDir(), "script.gguf")
	if err := weights.SaveGGUF(path, v.metadata(template), tensors(len(v.tokens), next)); err != nil {
		t.Fatal(err)
	}
	if written := time.Unix(1700000000, 0); os.Chtimes(path, written, written) != nil { // models tell when they were made
		t.Fatalf("scripttest: %s: its time cannot be set", path)
	}
	return path
}

// Tokens that every vocabulary begins with, and GGUF's kinds of tokens.
const (
	unknownToken, beginToken, endToken                  = 0, 1, 2
	kindUnknown, kindControl, kindUserDefined, kindByte = 2, 3, 4, 6
)

// vocabulary has every byte, so that every text has tokens, and the texts of the scripts.
type vocabulary struct {
	tokens []string
	kinds  []int32
	ids    map[string]int
}

func newVocabulary() *vocabulary {
	v := &vocabulary{tokens: []string{"<unk>", "<s>", "</s>"}, kinds: []int32{kindUnknown, kindControl, kindControl}, ids: map[string]int{}}
	for b := range 256 {
		v.tokens, v.kinds = append(v.tokens, fmt.Sprintf("<0x%02X>", b)), append(v.kinds, kindByte)
	}
	return v
}

// add returns the id of a text.
func (v *vocabulary) add(text string) int {
	if id, ok := v.ids[text]; ok {
		return id
	}
	kind := int32(kindUserDefined)
	if strings.HasPrefix(text, "<|") && strings.HasSuffix(text, "|>") {
		kind = kindControl
	}
	id := len(v.tokens)
	v.tokens, v.kinds, v.ids[text] = append(v.tokens, text), append(v.kinds, kind), id
	return id
}

func (v *vocabulary) metadata(template string) *weights.Metadata {
	width := widthOf(len(v.tokens))
	md := weights.NewMetadata()
	md.Set("general.architecture", "llama")
	md.Set("general.name", "script")
	set := func(key string, value any) { md.Set("llama."+key, value) }
	set("block_count", uint32(1))
	set("context_length", uint32(contextLength))
	set("embedding_length", uint32(width))
	set("feed_forward_length", uint32(headDim))
	set("attention.head_count", uint32(width/headDim))
	set("attention.head_count_kv", uint32(1))
	set("attention.layer_norm_rms_epsilon", float32(1e-6))
	set("vocab_size", uint32(len(v.tokens)))
	md.Set("tokenizer.ggml.model", "llama")
	md.Set("tokenizer.ggml.tokens", v.tokens)
	md.Set("tokenizer.ggml.scores", make([]float32, len(v.tokens)))
	md.Set("tokenizer.ggml.token_type", v.kinds)
	md.Set("tokenizer.ggml.unknown_token_id", uint32(unknownToken))
	md.Set("tokenizer.ggml.bos_token_id", uint32(beginToken))
	md.Set("tokenizer.ggml.eos_token_id", uint32(endToken))
	md.Set("tokenizer.ggml.add_space_prefix", false)
	md.Set("tokenizer.chat_template", template)
	return md
}

const headDim = 32

// widthOf is the hidden size: a dimension for each token, and whole heads.
func widthOf(numTokens int) int { return (numTokens + headDim - 1) / headDim * headDim }

// tensors are those of a Llama of one layer that adds nothing: the hidden state of a token stays the unit vector of its
// dimension, times what the last norm makes of it, and the head sends it to the token that follows.
func tensors(numTokens int, next map[int]int) []weights.NewTensor {
	const certainty = 10 // with the norm's factor far above every other logit, which are 0
	width := widthOf(numTokens)
	ones := func(int) float32 { return 1 }
	zero := func(int) float32 { return 0 }
	return []weights.NewTensor{
		tensor("token_embd", sparse(func(row, column int) bool { return row == column }, width, 1), numTokens, width),
		tensor("output", sparse(func(row, column int) bool {
			to, ok := next[column]
			return ok && to == row || !ok && row == endToken && column < numTokens
		}, width, certainty), numTokens, width),
		tensor("output_norm", ones, width),
		tensor("blk.0.attn_norm", ones, width),
		tensor("blk.0.ffn_norm", ones, width),
		tensor("blk.0.attn_q", zero, width, width),
		tensor("blk.0.attn_k", zero, headDim, width),
		tensor("blk.0.attn_v", zero, headDim, width),
		tensor("blk.0.attn_output", zero, width, width),
		tensor("blk.0.ffn_gate", zero, headDim, width),
		tensor("blk.0.ffn_up", zero, headDim, width),
		tensor("blk.0.ffn_down", zero, width, headDim),
	}
}

// sparse is a matrix that has a value where is says so, and 0 elsewhere.
func sparse(is func(row, column int) bool, width int, value float32) func(int) float32 {
	return func(i int) float32 {
		if is(i/width, i%width) {
			return value
		}
		return 0
	}
}

func tensor(name string, at func(int) float32, shape ...int) weights.NewTensor {
	size := 1
	for _, n := range shape {
		size *= n
	}
	return weights.NewTensor{Name: name + ".weight", Shape: shape, Write: func(w io.Writer) error {
		data := make([]byte, 0, 4*size)
		for i := range size {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(at(i)))
		}
		_, err := w.Write(data)
		return err
	}}
}
