package chat

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"hearth/engine/chat/jinja"
)

// replyTools are the tools of the tests.
const replyTools = `[
	{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "$defs": {"text": {"type": "string"}}, "properties": {
		"s": {"type": "string"}, "n": {"type": "integer"}, "b": {"type": "boolean"}, "o": {"type": "object", "properties": {"s": {"type": "string"}}},
		"a": {"type": "array", "items": {"type": "number"}}, "u": {"type": ["string", "null"]}, "r": {"$ref": "#/$defs/text"},
		"y": {"anyOf": [{"type": "number"}, {"type": "string"}]}}}}},
	{"type": "function", "function": {"name": "f_long"}}]`

var parsedTools = sync.OnceValues(func() (jinja.Value, error) { return ParseTools([]byte(replyTools)) })

func toolsOf(t testing.TB) jinja.Value {
	t.Helper()
	tools, err := parsedTools()
	if err != nil {
		t.Fatal(err)
	}
	return tools
}

func dialectNamed(t testing.TB, name string) *dialect {
	t.Helper()
	for _, d := range dialects {
		if d.name == name {
			return d
		}
	}
	if name != "" {
		t.Fatalf("no dialect is called %q", name)
	}
	return nil
}

// replyCase is a reply and how it has to be read.
type replyCase struct {
	dialect string
	prompt  string // its end
	reply   string
	cut     bool // off, not ended by the model
	want    string
}

func (c *replyCase) parser(t testing.TB) *Parser {
	ids := 0
	return newParser(allThoughts[1], dialectNamed(t, c.dialect), ReplyOptions{Prompt: c.prompt, Tools: toolsOf(t), NewID: func(prefix string) string {
		ids++
		return fmt.Sprint(prefix, ids)
	}})
}

// read parses a reply that comes in pieces, and writes what was found: (reasoning)text<name arguments>.
func (c *replyCase) read(t testing.TB, cuts ...string) string {
	p := c.parser(t)
	defer p.Close()
	var got strings.Builder
	end, last := 0, Kind(255)
	note := func(pieces []Piece) {
		for _, piece := range pieces {
			if piece.End < end || piece.End > len(c.reply) {
				t.Errorf("%q: a piece ends at %d, the one before at %d", c.reply, piece.End, end)
				return
			}
			if piece.Kind <= Reasoning && !strings.HasSuffix(c.reply[end:piece.End], piece.Text) {
				t.Errorf("%q: piece %q does not end its part %q", c.reply, piece.Text, c.reply[end:piece.End])
			}
			end = piece.End
			if (piece.Kind == CallBegin) != (piece.ID != "") {
				t.Errorf("%q: piece %+v", c.reply, piece)
			}
			if piece.Text == "" && piece.Kind != CallEnd {
				continue
			}
			if last == Reasoning && piece.Kind != Reasoning {
				got.WriteString(")")
			}
			switch {
			case piece.Kind == Reasoning && last != Reasoning:
				got.WriteString("(" + piece.Text)
			case piece.Kind == CallBegin:
				got.WriteString("<" + piece.Text + " ")
			case piece.Kind == CallEnd:
				got.WriteString(">")
			default:
				got.WriteString(piece.Text)
			}
			last = piece.Kind
		}
	}
	for _, text := range cuts {
		note(p.Push(text))
	}
	note(p.Finish(!c.cut))
	if last == Reasoning {
		got.WriteString(")")
	}
	if end != len(c.reply) {
		t.Errorf("%q: %d of %d bytes are accounted for", c.reply, end, len(c.reply))
	}
	return got.String()
}

// split cuts a text at random places.
func split(rng *rand.Rand, text string) []string {
	var cuts []string
	for text != "" {
		n := 1 + rng.IntN(min(len(text), 12))
		cuts, text = append(cuts, text[:n]), text[n:]
	}
	return cuts
}

// check reads a reply whole, byte by byte, cut in two everywhere, and in random pieces.
func (c *replyCase) check(t *testing.T) {
	t.Helper()
	whole := c.read(t, c.reply)
	if c.want != "" && whole != c.want {
		t.Errorf("%s, %q + %q:\ngot  %q\nwant %q", c.dialect, c.prompt, c.reply, whole, c.want)
	}
	for i := range len(c.reply) + 1 {
		if got := c.read(t, c.reply[:i], c.reply[i:]); got != whole {
			t.Fatalf("%s, %q, cut at %d:\ngot  %q\nwant %q", c.dialect, c.reply, i, got, whole)
		}
	}
	if got := c.read(t, strings.Split(c.reply, "")...); got != whole {
		t.Errorf("%s, %q, character by character:\ngot  %q\nwant %q", c.dialect, c.reply, got, whole)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 5 {
		if cuts := split(rng, c.reply); c.read(t, cuts...) != whole {
			t.Errorf("%s: %q differ from the whole:\nwant %q", c.dialect, cuts, whole)
		}
	}
}

func TestReasoning(t *testing.T) {
	for _, c := range []replyCase{
		{reply: "<think>\nabc\n</think>\n\ndef", want: "(abc)def"},
		{prompt: "<think>\n", reply: "abc\n</think>\n\ndef", want: "(abc)def"},
		{prompt: "<think>", reply: "<think>abc</think>def", want: "(abc)def"}, // opened twice
		{prompt: "<think>\n\n</think>\n\n", reply: "def", want: "def"},
		{reply: "</think>def", want: "def"}, // none
		{reply: "\n <think></think>\n def ", want: " def "},
		{reply: "a<think>b</think>c", want: "a<think>b</think>c"}, // only at the beginning
		{reply: " \na", want: " \na"},
		{reply: "<thin", want: "<thin"},
		{reply: "<think>a < b </thin \n", want: "(a < b </thin \n)"}, // never closed
		{prompt: "<think>", reply: "", want: ""},
		{prompt: "<think>", reply: " \n", want: ""},
		{reply: "<think>a</think>b</think>c", want: "(a)b</think>c"},
		{reply: "<think>日本</think>日本", want: "(日本)日本"},
		// Calls end reasoning that has no closing tag, when they are well-formed.
		{dialect: "hermes", reply: "<think>a <tool_call> b\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>", want: "(a <tool_call> b)<f {}>"},
		{dialect: "hermes", reply: "<think>a</think>\n\n<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>", want: "(a)<f {}>"},
	} {
		c.check(t)
	}
}

func TestHermes(t *testing.T) {
	for _, c := range []replyCase{
		{reply: "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"s\": \"a}\\\"</tool_call>\"}}\n</tool_call>", want: `<f {"s": "a}\"</tool_call>"}>`},
		{reply: "Well.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n{\"name\": \"g\", \"arguments\": {\"x\": [1, {}]}}\n</tool_call>\n", want: `Well.<f {}><g {"x": [1, {}]}>`},
		{reply: `<tool_call>{"arguments": {"s": "x"}, "name": "f"}</tool_call>`, want: `<f {"s": "x"}>`},
		{reply: `<tool_call>{"name": "f", "arguments": "{\"s\": \"\\n\"}"}</tool_call> Done.`, want: `<f {"s": "\n"}> Done.`},
		{reply: `<tool_call>{"name": "f", "arguments": null}</tool_call>`, want: `<f {}>`},
		{reply: `<tool_call>{"name": "f"}</tool_call>`, want: `<f {}>`},
		{reply: `<tool_call>{"id": 7, "name": "f", "arguments": {"n": 1}, "x": [2]}</tool_call>`, want: `<f {"n": 1}>`},
		{reply: "<tool_call>{\"name\": \"f\", \"arguments\": {}}\n{\"name\": \"f_long\", \"arguments\": {}}</tool_call>", want: `<f {}><f_long {}>`},
		{reply: `<tool_call>{"name": "f", "arguments": {}}}</tool_call>`, want: `<f {}>`},           // one brace too many
		{reply: `<tool_call>{"name": "f", "arguments": {"n": 1}</tool_call>`, want: `<f {"n": 1}>`}, // one too few
		{reply: `<tool_call>{"name": "f", "arguments": {"n": [1</tool_call>x`, want: `<f {"n": [1>x`},
		{reply: `<tool_call>{"name": "f", "arguments": {"n": 1}}`, want: `<f {"n": 1}>`}, // ended early
		{reply: `<tool_call>{"name": "f", "arguments": {"n": 1`, want: `<f {"n": 1>`},
		{reply: `<tool_call>{"name": "f", "arguments": {"n": 1`, cut: true, want: `<f {"n": 1`},
		{reply: `<tool_call>{"name": "f", "arguments": "{\"n`, cut: true, want: `<f "{\"n`},
		{reply: `<tool_call>{"name": "f", "arguments": {"s": "\`, cut: true, want: `<f {"s": "\`},
		// What is no call is text.
		{reply: "Use <tool_call> and </tool_call>.\n", want: "Use <tool_call> and </tool_call>.\n"},
		{reply: "<tool_call>\n{\"name\": 3, \"arguments\": {}}\n</tool_call>", want: "<tool_call>\n{\"name\": 3, \"arguments\": {}}\n</tool_call>"},
		{reply: `<tool_call>{"name": "f", "arg`, want: `<tool_call>{"name": "f", "arg`},
		{reply: `<tool_call>{"name": "f", "arguments":`, want: `<tool_call>{"name": "f", "arguments":`},
		{reply: `<tool_call>{"name" "f"}</tool_call>`, want: `<tool_call>{"name" "f"}</tool_call>`},
		{reply: `<tool_call>{}</tool_call>`, want: `<tool_call>{}</tool_call>`},
		{reply: `a <tool_call>[1]</tool_call><tool_call>{"name": "f", "arguments": {}}</tool_call>`, want: `a <tool_call>[1]</tool_call><f {}>`},
	} {
		c.dialect = "hermes"
		c.check(t)
	}
}

func TestQwen(t *testing.T) {
	for _, c := range []replyCase{
		{reply: "<tool_call>\n<function=f>\n<parameter=s>\n  a\n\n</parameter>\nb\\\"\t\n\n</parameter>\n<parameter=n>\n3\n</parameter>\n</function>\n</tool_call>",
			want: `<f {"s": "  a\n\n</parameter>\nb\\\"\t\n", "n": 3}>`},
		{reply: "Well.\n\n<tool_call>\n<function=f_long>\n</function>\n</tool_call>\n<tool_call>\n<function=f>\n<parameter=s>\n123\n</parameter>\n</function>\n</tool_call>", want: `Well.<f_long {}><f {"s": "123"}>`},
		{reply: "<function=f>\n<parameter=b>\nTrue\n</parameter>\n</function>\n</tool_call>", want: `<f {"b": true}>`}, // without its opening tag
		{reply: "<tool_call><function=f><parameter=s>x</parameter><parameter=u>null</parameter><parameter=y>7</parameter><parameter=r>7</parameter></function></tool_call>", want: `<f {"s": "x", "u": null, "y": 7, "r": "7"}>`},
		{reply: "<tool_call>\n<function=f>\n<parameter=o>\n{\"a\": [1]}\n</parameter>\n<parameter=a>\nnot\njson\n</parameter>\n<parameter=zz>\n1.5\n</parameter>\n</function>\n</tool_call>", want: `<f {"o": {"a": [1]}, "a": "not\njson", "zz": 1.5}>`},
		{reply: "<tool_call>\n<function=g>\n<parameter=x>\n5\n</parameter>\n</function>\n</tool_call>", want: `<g {"x": 5}>`}, // an unknown tool
		{reply: "<tool_call>\n<function=f>\n<parameter=s>\nx\n</function>\n</tool_call>", want: `<f {"s": "x"}>`},
		{reply: "<tool_call>\n<function=f>\n<parameter=s>\nx\n</parameter>\n</tool_call>", want: `<f {"s": "x"}>`},
		{reply: "<tool_call>\n<function=f>\n<parameter=s>\nx\n</parameter>", want: `<f {"s": "x"}>`},
		{reply: "<tool_call>\n<function=f>\n<parameter=s>\nx", want: `<f {"s": "x"}>`},
		{reply: "<tool_call>\n<function=f>\n<parameter=s>\nx", cut: true, want: `<f {"s": "x`},
		{reply: "<tool_call>\n<function=f>\n<parameter=n>\n12", cut: true, want: `<f {"n": 12`},
		{reply: "<tool_call>\n<function=f>\n<parameter=s>\nx\n</parameter>\n", cut: true, want: `<f {"s": "x"`},
		{reply: "<tool_call>\n<function=f>\nno parameter\n</function>", want: "<f {}>\nno parameter\n</function>"},
		{reply: "The tag <tool_call> and <function=g> are prose.", want: "The tag <tool_call> and <function=g> are prose."},
		{reply: "<tool_call>\n<function=f", want: "<tool_call>\n<function=f"},
		{reply: "<tool_call>\n<function=>", want: "<tool_call>\n<function=>"},
	} {
		c.dialect = "qwen"
		c.check(t)
	}
}

func TestOtherDialects(t *testing.T) {
	mark := minimaxMark
	for _, c := range []replyCase{
		{dialect: "minimax-m2", reply: "Hm.\n<minimax:tool_call>\n<invoke name=\"f\">\n<parameter name=\"s\">a\n</parameter>\n<parameter name=\"n\">2</parameter>\n</invoke>\n<invoke name=\"f_long\">\n</invoke>\n</minimax:tool_call>", want: `Hm.<f {"s": "a\n", "n": 2}><f_long {}>`},
		{dialect: "minimax-m2", prompt: "<think>\n", reply: "a<minimax:tool_call><invoke name=\"f\"></invoke></minimax:tool_call>", want: `(a)<f {}>`},
		{dialect: "minimax-m2", reply: "<minimax:tool_call>nothing</minimax:tool_call>", want: "<minimax:tool_call>nothing</minimax:tool_call>"},

		{dialect: "deepseek-v4", reply: "Hm.\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"n\" string=\"true\">2</｜DSML｜parameter>\n<｜DSML｜parameter name=\"s\" string=\"false\">{\"a\": 1}</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>", want: `Hm.<f {"n": "2", "s": {"a": 1}}>`},
		{dialect: "deepseek-v3.2", prompt: "<think>", reply: "a</think>\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n\n</｜DSML｜invoke>\n</｜DSML｜function_calls>", want: `(a)<f {}>`},

		{dialect: "deepseek", reply: "Hm.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"n\": 1}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>", want: `Hm.<f {"n": 1}><g {}>`},
		{dialect: "deepseek", reply: "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"n\": 1}<｜tool▁call▁end｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>", want: `<f {"n": 1}><function {}>`},
		{dialect: "deepseek", reply: "<｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"n\": 1", want: `<f {"n": 1>`},
		{dialect: "deepseek", reply: "<｜tool▁calls▁begin｜>f", want: "<｜tool▁calls▁begin｜>f"},

		{dialect: "llama", reply: `{"name": "f", "parameters": {"n": 1}}`, want: `<f {"n": 1}>`},
		{dialect: "llama", reply: ` <|python_tag|>{"name": "f", "parameters": {}}; {"type": "function", "name": "f_long", "parameters": {}}`, want: `<f {}><f_long {}>`},
		{dialect: "llama", reply: `{"name": "Bob", "age": 3}`, want: `{"name": "Bob", "age": 3}`},
		{dialect: "llama", reply: `Sure: {"name": "f", "parameters": {}}`, want: `Sure: {"name": "f", "parameters": {}}`},

		{dialect: "mistral", reply: `[TOOL_CALLS] [{"name": "f", "arguments": {"n": 1}, "id": "abcdefghi"}, {"name": "g", "arguments": {}}]`, want: `<f {"n": 1}><g {}>`},
		{dialect: "mistral", reply: `Hm.[TOOL_CALLS]f[ARGS]{"n": 1}[TOOL_CALLS]g{}`, want: `Hm.<f {"n": 1}><g {}>`},
		{dialect: "mistral", reply: `[TOOL_CALLS] none`, want: `[TOOL_CALLS] none`},

		{dialect: "kimi", reply: `Hm.<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{"n": 1}<|tool_call_end|><|tool_call_begin|>functions.g:1<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>`, want: `Hm.<f {"n": 1}><g {}>`},

		{dialect: "glm", reply: "Hm.\n<tool_call>f\n<arg_key>s</arg_key>\n<arg_value>a\n</arg_value>\n<arg_key>n</arg_key>\n<arg_value>2</arg_value>\n</tool_call>\n<tool_call>f_long\n</tool_call>", want: `Hm.<f {"s": "a\n", "n": 2}><f_long {}>`},
		{dialect: "glm", reply: "<tool_call>f<arg_key>b</arg_key><arg_value>false</arg_value></tool_call>", want: `<f {"b": false}>`},
		{dialect: "glm", reply: "<tool_call> is a tag\n", want: "<tool_call> is a tag\n"},

		{dialect: "minimax-m3", reply: "Hm." + strings.ReplaceAll("M<tool_call>\nM<invoke name=\"f\">M<s>a\"M</s>M<n>2M</n>M<a>M<item>1M</item>M<item>2M</item>M</a>M<o>M<s>7M</s>M<x>7M</x>M</o>M<u>nullM</u>M</invoke>\nM<invoke name=\"f_long\">M</invoke>\nM</tool_call>", "M", mark),
			want: `Hm.<f {"s": "a\"", "n": 2, "a": [1, 2], "o": {"s": "7", "x": 7}, "u": null}><f_long {}>`},
		{dialect: "minimax-m3", reply: strings.ReplaceAll("M<tool_call>M<invoke name=\"f\">M<a>M</a>M<o>M</o>M<s>M</s>M</invoke>M</tool_call>", "M", mark), want: `<f {"a": [], "o": {}, "s": ""}>`},
		{dialect: "minimax-m3", reply: strings.ReplaceAll("M<tool_call>M<invoke name=\"f\">M<s>ab", "M", mark), cut: true, want: `<f {"s": "ab`},
		{dialect: "minimax-m3", reply: mark + "<tool_call> no", want: mark + "<tool_call> no"},
	} {
		c.check(t)
	}
}

// TestWithoutTools reads replies to a request that has no tools: what looks like a call is text.
func TestWithoutTools(t *testing.T) {
	template := &Template{thoughts: allThoughts[1], calls: hermes}
	p := template.NewParser(ReplyOptions{})
	defer p.Close()
	const reply = `<tool_call>{"name": "f", "arguments": {}}</tool_call> `
	text := ""
	for _, push := range []func() []Piece{func() []Piece { return p.Push("<think>a</think>" + reply) }, func() []Piece { return p.Finish(true) }} {
		for _, piece := range push() {
			if piece.Kind == Text {
				text += piece.Text
			}
		}
	}
	if text != reply || p.IsMarker("<tool_call>") || !p.IsMarker("</think>") {
		t.Errorf("the text is %q, want %q", text, reply)
	}
	if (&Template{calls: hermes}).NewParser(ReplyOptions{}) != nil {
		t.Error("a parser has nothing to find")
	}
}

// TestCallIDs wants ids that templates take.
func TestCallIDs(t *testing.T) {
	for _, test := range []struct{ dialect, reply, want string }{
		{"hermes", `<tool_call>{"name": "f", "id": "x", "arguments": {}}</tool_call>`, "x"},
		{"hermes", `<tool_call>{"name": "f", "arguments": {}}</tool_call>`, "call_1"},
		{"mistral", `[TOOL_CALLS]f{}`, "000000001"},
		{"kimi", `<|tool_calls_section_begin|><|tool_call_begin|>functions.f:3<|tool_call_argument_begin|>{}`, "functions.f:3"},
	} {
		c := replyCase{dialect: test.dialect}
		p := c.parser(t)
		got := ""
		for _, piece := range append(slices.Clone(p.Push(test.reply)), p.Finish(true)...) {
			got += piece.ID
		}
		p.Close()
		if got != test.want {
			t.Errorf("%s: the id is %q, want %q", test.dialect, got, test.want)
		}
	}
}

// TestCutAnywhere cuts a reply of every dialect off at every byte: nothing fails, and what was complete stays so.
func TestCutAnywhere(t *testing.T) {
	for _, reply := range hostileReplies {
		for _, d := range dialects {
			for i := range len(reply) {
				c := replyCase{dialect: d.name, reply: reply[:i], cut: true}
				if whole := c.read(t, reply[:i]); c.read(t, strings.SplitAfter(reply[:i], "<")...) != whole {
					t.Fatalf("%s: %q is read in two ways", d.name, reply[:i])
				}
			}
		}
	}
}

// hostileReplies mix the dialects up.
var hostileReplies = []string{
	"<think>\na <tool_call> {\"name\": \"f\", \"arguments\": {\"s\": \"\\\"}\"}}</tool_call></think>b",
	"<tool_call><function=f><parameter=s><parameter=n></function></parameter></tool_call>",
	"<tool_call>\n{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1}\"}\n</tool_call>",
	"<tool_call>f<arg_key>s</arg_key><arg_value></tool_call></arg_value></tool_call>",
	"<minimax:tool_call><invoke name=\"f\"><parameter name=\"a\">[1, 2]</parameter></invoke>",
	"<｜DSML｜tool_calls><｜DSML｜invoke name=\"f\"><｜DSML｜parameter name=\"s\" string=\"true\">x</｜DSML｜parameter></｜DSML｜invoke>",
	"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": 1}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
	"{\"name\": \"f\", \"parameters\": {\"n\": [1, {\"x\": \"y\"}]}};{\"name\": \"f\"}",
	"[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {}}, {\"arguments\": {}, \"name\": \"f\"}]",
	"<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{}<|tool_call_end|>",
	minimaxMark + "<tool_call>" + minimaxMark + "<invoke name=\"f\">" + minimaxMark + "<a>" + minimaxMark + "<item>1" + minimaxMark + "</item>" + minimaxMark + "</a>",
}

// FuzzReply reads any text in every dialect, whole and in pieces: both come to the same, every byte is accounted for,
// and a complete call of a dialect that writes the JSON itself has valid arguments.
func FuzzReply(f *testing.F) {
	for _, reply := range hostileReplies {
		f.Add(reply, uint64(1), false)
	}
	f.Fuzz(func(t *testing.T, reply string, seed uint64, cut bool) {
		if len(reply) > 1<<12 || !utf8.ValidString(reply) {
			return
		}
		rng := rand.New(rand.NewPCG(seed, 0))
		for _, d := range dialects {
			c := replyCase{dialect: d.name, reply: reply, cut: cut}
			whole := c.read(t, reply)
			if cuts := split(rng, reply); c.read(t, cuts...) != whole {
				t.Fatalf("%s: %q is not read as the whole is: %q", d.name, cuts, whole)
			}
			switch d {
			case qwen, glm, minimaxM2, minimaxM3, deepseekV32, deepseekV4:
				checkArguments(t, &c)
			}
		}
	})
}

// checkArguments wants the arguments of complete calls to be JSON objects.
func checkArguments(t *testing.T, c *replyCase) {
	p := c.parser(t)
	defer p.Close()
	arguments := ""
	for _, push := range []func() []Piece{func() []Piece { return p.Push(c.reply) }, func() []Piece { return p.Finish(!c.cut) }} {
		for _, piece := range push() {
			switch piece.Kind {
			case CallBegin:
				arguments = ""
			case CallArguments:
				arguments += piece.Text
			case CallEnd:
				if !json.Valid([]byte(arguments)) {
					t.Errorf("%s: %q has arguments %q", c.dialect, c.reply, arguments)
				}
			}
		}
	}
}

// TestDialectsOfTemplates holds what is found out about the reference templates against their authors' descriptions.
// What a template writes, no two dialects read.
func TestDialectsOfTemplates(t *testing.T) {
	want := map[string]string{ // dialect, opening tag of reasoning; tools where prompts show them
		"GLM-4.6": "glm <think> tools", "GLM-4.7-Flash": "glm <think> tools",
		"Kimi-K2-Instruct": "kimi  tools", "Kimi-K2-Thinking": "kimi <think> tools", "moonshotai-Kimi-K2": "kimi  tools",
		"MiniMax-M2": "minimax-m2 <think> tools", "MiniMax-M3": "minimax-m3 <mm:think> tools",
		"NousResearch-Hermes-3-Llama-3.1-8B-tool_use": "hermes  tools", "Qwen-Qwen2.5-7B-Instruct": "hermes  tools",
		"Qwen-QwQ-32B": "hermes <think> tools", "Qwen-Qwen3-0.6B": "hermes <think> tools", "config-Qwen3-30B-A3B": "hermes <think> tools",
		"config-Qwen3-30B-A3B-Thinking-2507": "hermes <think> tools", "config-Qwen2": "  ",
		"Qwen3-Coder": "qwen  tools", "config-Qwen3-Coder-30B-A3B": "qwen  tools", "Qwen3.5-4B": "qwen <think> tools",
		"config-DeepSeek-R1": "deepseek <think> tools", "config-DeepSeek-V3.1": "deepseek <think> tools", "deepseek-ai-DeepSeek-V3.1": "deepseek <think> tools",
		"config-DeepSeek-R1-Distill-Qwen-14B": "deepseek <think> tools", "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": "deepseek <think> tools",
		"deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": "deepseek <think> tools", "llama-cpp-deepseek-r1": "deepseek <think> tools",
		"deepseek-ai-DeepSeek-V3.2": "deepseek-v3.2 <think> tools", "deepseek-ai-DeepSeek-V4": "deepseek-v4 <think> tools",
		"deepseek-ai-DeepSeek-V4-Flash-0731": "deepseek-v4 <think> tools", "google-gemma-2-2b-it": "  ",
		"meta-llama-Llama-3.1-8B-Instruct": "llama  tools", "meta-llama-Llama-3.2-3B-Instruct": "llama  tools",
		"meta-llama-Llama-3.3-70B-Instruct": "llama  tools", "mistralai-Mistral-Nemo-Instruct-2407": "mistral  tools",
		"openai-gpt-oss-120b": "  tools",
	}
	eachTemplate(t, func(t *testing.T, source string, vectors []vector) {
		template, err := New(source, vectors[0].BOS, vectors[0].EOS)
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprintf("%s %s %s", template.calls.String(), template.thoughts.String(), map[bool]string{true: "tools"}[template.showsTools])
		if name := t.Name()[strings.IndexByte(t.Name(), '/')+1:]; got != want[name] {
			t.Errorf("got %q, want %q", got, want[name])
		}
	})
}

// TestRepliesOfTemplates lets every template write a reply with reasoning, text and calls, as it prints earlier replies,
// and reads it.
func TestRepliesOfTemplates(t *testing.T) {
	eachTemplate(t, func(t *testing.T, source string, vectors []vector) {
		template, err := New(source, vectors[0].BOS, vectors[0].EOS)
		if err != nil {
			t.Fatal(err)
		}
		if template.calls == nil {
			t.Skip("writes no calls")
		}
		read := 0
		for _, arguments := range []string{
			`{}`, `{"s": "x"}`, `{"s": " \"a\"\\ \n  b\t<x>日本 "}`, `{"n": 12, "b": true, "s": "12"}`, `{"o": {"s": "x", "k": [1, 2]}}`, `{"a": [1, 2.5]}`, `{"s": "true", "r": "null"}`,
		} {
			for _, content := range []string{`null`, `"Let me see."`} {
				p := prompt(t, `[{"role": "user", "content": "q?"}, {"role": "assistant", "content": `+content+`, "reasoning_content": "Hm.",
					"tool_calls": [{"id": "abcdefghi", "type": "function", "function": {"name": "f", "arguments": `+arguments+`}}]}]`, ``)
				if template.showsTools {
					if p.Tools, err = ParseTools([]byte(`[{"type": "function", "function": {"name": "f", "description": "x"}}]`)); err != nil {
						t.Fatal(err)
					}
				}
				whole, err := template.Render(p)
				if err != nil {
					t.Fatal(err)
				}
				if uncalled, err := template.Render(withoutCalls(p)); content != "null" && (whole == uncalled || !strings.Contains(whole, "Let me see.")) {
					if err != nil {
						t.Fatal(err)
					}
					continue // it prints either content or calls
				}
				checkRendered(t, template, whole, content, arguments)
				read++
			}
		}
		if read == 0 {
			t.Error("no reply was read")
		}
	})
}

// withoutCalls returns a prompt whose last message calls no tools.
func withoutCalls(p *Prompt) *Prompt {
	last := p.Messages.At(p.Messages.Len() - 1).(*jinja.Dict).Clone()
	last.Delete("tool_calls")
	q := *p
	q.Messages = jinja.NewList(p.Messages.At(0), last)
	return &q
}

func checkRendered(t *testing.T, template *Template, whole, content, arguments string) {
	t.Helper()
	_, reply, _ := strings.Cut(whole, "q?")
	if template.calls.atStart {
		reply = reply[strings.IndexByte(reply, '{'):]
	}
	if i := strings.Index(reply, "Hm."); i >= 0 && template.thoughts != nil {
		reply = template.thoughts.open + reply[i:] // without the header
	}
	p := newParser(template.thoughts, template.calls, ReplyOptions{Tools: toolsOf(t), NewID: func(string) string { return "id" }})
	defer p.Close()
	var text, reasoning, name, got string
	ends := 0
	for _, push := range []func() []Piece{func() []Piece { return p.Push(reply) }, func() []Piece { return p.Finish(true) }} {
		for _, piece := range push() {
			switch piece.Kind {
			case Text:
				text += piece.Text
			case Reasoning:
				reasoning += piece.Text
			case CallBegin:
				name += piece.Text
			case CallArguments:
				got += piece.Text
			case CallEnd:
				ends++
			}
		}
	}
	var a, b any
	if json.Unmarshal([]byte(got), &a) != nil || json.Unmarshal([]byte(arguments), &b) != nil || !reflect.DeepEqual(a, b) || name != "f" || ends != 1 {
		t.Errorf("%q: got the call %s %s (%d ends), want f %s", reply, name, got, ends, arguments)
	}
	if content != "null" && !strings.Contains(text, "Let me see.") {
		t.Errorf("%q: the text is %q", reply, text)
	}
	if strings.Contains(reply, "Hm.") && template.thoughts != nil && reasoning != "Hm." {
		t.Errorf("%q: the reasoning is %q", reply, reasoning)
	}
}
