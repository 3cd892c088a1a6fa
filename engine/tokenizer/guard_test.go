package tokenizer

import (
	"slices"
	"strings"
	"testing"
)

// controls lists the guarded tokens among ids.
func controls(t *Tokenizer, ids []int32) []int32 {
	return slices.DeleteFunc(slices.Clone(ids), func(id int32) bool {
		return t.kinds[id] != control && !(t.kinds[id] == userDefined && isDelimiter(t.tokens[id]))
	})
}

// encodeAsText encodes text none of whose guarded tokens is found.
func encodeAsText(t *Tokenizer, text string) []int32 {
	literal := make([]int, len(text))
	for i := range literal {
		literal[i] = i
	}
	return t.encode(text, partition{guarded: true, literal: literal}, false)
}

func TestGuard(t *testing.T) {
	tok := synthetic(t)
	for _, text := range []string{
		"", "hello", "<|im_start|>", "a <|im_end|> b", "<|im_start|><|im_end|>", "<|im_<|im_end|>end|>", "<", "<|", "<|im_end|", "x <| y", " <",
		"<s>", "</s>", "\u2402", "<｜User｜>", quote, quote + "<|im_end|>", "<" + quote + "|im_end|>", quote + quote, "<|im_end" + quote + "|>",
		"s>", "/s>", "|im_end|>", "\xEF\xB7", "\xEF", "<think>x</think>",
	} {
		guarded := tok.Guard(text)
		if plain, _ := unguard(guarded); plain != text {
			t.Errorf("Guard(%+q) = %+q, which is the guard of %+q", text, guarded, plain)
		}
		if got, want := tok.EncodeGuarded(guarded, EncodeOptions{}), encodeAsText(tok, text); !slices.Equal(got, want) {
			t.Errorf("EncodeGuarded(Guard(%+q)) = %d, want %d", text, got, want)
		}
	}
}

// TestGuardLeavesTags checks that templates can compare with what is no control token.
func TestGuardLeavesTags(t *testing.T) {
	tok := synthetic(t)
	for _, text := range []string{"hello", "<think>", "</think>", "a</think>b", "<tool_response>", "</tool_response>", "if a<b: c", "2 </p>", "object", "user"} {
		if got := tok.Guard(text); got != text {
			t.Errorf("Guard(%q) = %+q, want it unchanged", text, got)
		}
	}
}

// TestGuardInTemplates does what templates do with contents, and checks that of what users wrote nothing becomes a control
// token while what the template wrote does.
func TestGuardInTemplates(t *testing.T) {
	tok := synthetic(t)
	start, _ := tok.idOf("<|im_start|>")
	end, _ := tok.idOf("<|im_end|>")
	for name, template := range map[string]func(a, b string) string{
		"between":      func(a, b string) string { return a + b },
		"trimmed":      func(a, b string) string { return strings.TrimSpace(a) + strings.TrimSpace(b) },
		"before split": func(a, b string) string { return strings.Split(a, "</think>")[0] + b },
		"after split":  func(a, b string) string { return a[strings.LastIndex(a, "</think>")+1:] + b },
		"joined again": func(a, b string) string { return strings.Join(strings.Split(a, "<think>"), "") + b },
		"line breaks":  func(a, b string) string { return strings.Trim(a, "\n") + strings.ReplaceAll(b, "\n", "") },
		"in brackets":  func(a, b string) string { return "<" + a + "></" + b + ">" },
		"upper case":   func(a, b string) string { return strings.ToLower(a) + b },
	} {
		for _, c := range [][2]string{
			{"<|im_end|>", "<|im_start|>"}, {"<|im_", "end|>"}, {"<|im_ ", "\nend|>"}, {"<", "|im_end|>"}, {"< \n", " |im_end|>"},
			{"<|im<think>_end|>", "x"}, {"<<think>|im_end|>", ""}, {"</<think>s>", ""}, {"<|im_end</think>|>", "|>"}, {"|im_end|", "s"}, {"s", "s"},
			{"<\n|im_end|>", "<|\nim_end|>"}, {"<|IM_END|>", ""}, {"/s", "s"}, {quote + "<", quote + "|im_end|>"}, {"\u2402", "\u2402 "},
		} {
			text := "<|im_start|>user\n" + template(tok.Guard(c[0]), tok.Guard(c[1])) + "<|im_end|>"
			ids := tok.EncodeGuarded(text, EncodeOptions{})
			if got, want := controls(tok, ids), []int32{start, end}; !slices.Equal(got, want) {
				t.Errorf("%s: %+q and %+q: %+q has the control tokens %d, want those of the template alone, %d", name, c[0], c[1], text, got, want)
			}
		}
	}
}

func (t *Tokenizer) idOf(text string) (int32, bool) {
	i := slices.Index(t.tokens, text)
	return int32(i), i >= 0
}

func TestGuardWithoutControlTokens(t *testing.T) {
	d := syntheticDefinition()
	for i, k := range d.kinds {
		if k == control || k == userDefined {
			d.kinds[i] = unused
		}
	}
	d.eos = -1
	tok, err := d.build()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"<|im_end|>", quote, "a" + quote + quote + "b"} {
		if plain, _ := unguard(tok.Guard(text)); plain != text {
			t.Errorf("Guard(%+q) is the guard of %+q", text, plain)
		}
	}
}

// TestGuardLinear encodes texts in which tokens nearly begin everywhere.
func TestGuardLinear(t *testing.T) {
	tok := synthetic(t)
	for _, unit := range []string{"<|im_end|>", "<", "<|im_end|", quote, "<|"} {
		text := strings.Repeat(unit, 20000/len(unit))
		if plain, _ := unguard(tok.Guard(text)); plain != text {
			t.Errorf("%+q repeated is not what its guard stands for", unit)
		}
		if got := controls(tok, tok.EncodeGuarded(tok.Guard(text), EncodeOptions{})); len(got) > 0 {
			t.Errorf("%+q repeated has the control tokens %d", unit, got)
		}
	}
}

// FuzzGuard checks for any two texts that they are text, wherever a template puts them.
func FuzzGuard(f *testing.F) {
	for _, text := range []string{"hello", "<|im_end|>", "<|im_", "end|>", "s", quote, "</s>", "<" + quote, "\u2402", "<｜User｜>", "|im_end|"} {
		for _, other := range []string{"", "<", "|im_end|>", " end|>"} {
			f.Add(text, other)
		}
	}
	tok := synthetic(f)
	end, _ := tok.idOf("<|im_end|>")
	f.Fuzz(func(t *testing.T, a, b string) {
		guardedA, guardedB := tok.Guard(a), tok.Guard(b)
		if plain, _ := unguard(guardedA); plain != a {
			t.Fatalf("Guard(%+q) = %+q, which is the guard of %+q", a, guardedA, plain)
		}
		for _, text := range []string{
			guardedA + guardedB + "<|im_end|>",
			strings.TrimSpace(guardedA) + strings.TrimSpace(guardedB) + "<|im_end|>",
			"<" + guardedA + "></" + guardedB + "><|im_end|>",
			strings.ReplaceAll(guardedA, "<think>", "") + "<|im_end|>",
		} {
			ids := tok.EncodeGuarded(text, EncodeOptions{})
			if got := controls(tok, ids); !slices.Equal(got, []int32{end}) {
				t.Fatalf("%+q has the control tokens %d, want the last alone, %d", text, got, end)
			}
		}
	})
}
