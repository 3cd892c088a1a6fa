package tokenizer

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// pieces returns how a pre-tokenizer cuts a text, and how many characters it looked at.
func pieces(p preTokenizer, text string) (cut []string, reads int) {
	s := splitter{stages: p.stages, emit: func(piece string) { cut = append(cut, piece) }}
	s.split(text, 0)
	return cut, s.reads
}

// TestSplits compares with pieces that a regular expression engine with look-ahead and Unicode classes gives for the
// published expressions. "·" stands for a space, "|" for a border.
func TestSplits(t *testing.T) {
	for _, c := range []struct {
		text string
		want map[string]string
	}{
		{"Hello  world's 12345 foo_bar", map[string]string{
			"llama-bpe": "Hello|·|·world|'s|·|123|45|·foo|_bar", "qwen2": "Hello|·|·world|'s|·|1|2|3|4|5|·foo|_bar",
			"qwen35": "Hello|·|·world|'s|·|1|2|3|4|5|·foo|_bar", "minimax-m2": "Hello|·|·world's|·|123|45|·foo|_bar",
			"deepseek-v3": "Hello|·|·world|'s|·|123|45|·foo|_bar",
		}},
		{"x = 1;\r\n\r\n\tif (a){", map[string]string{
			"llama-bpe": "x|·=|·|1|;\r\n\r\n|\tif|·(|a|){", "qwen2": "x|·=|·|1|;\r\n\r\n|\tif|·(|a|){",
			"qwen35": "x|·=|·|1|;\r\n\r\n|\tif|·(|a|){", "minimax-m2": "x|·=|·|1|;\r\n\r\n|\tif|·(|a|){",
			"deepseek-v3": "x|·=|·|1|;\r\n\r\n|\tif|·(|a|){",
		}},
		{"DON'T ДаTEST'll étéX", map[string]string{
			"llama-bpe": "DON|'T|·ДаTEST|'ll|·étéX", "minimax-m2": "DON'T|·Да|TEST'll|·été|X", "deepseek-v3": "DON|'T|·ДаTEST|'ll|·étéX",
			"gpt-2": "DON|'|T|·ДаTEST|'ll|·étéX",
		}},
		{"e\u0301a\u0301 中文あ12ab", map[string]string{
			"llama-bpe": "e|\u0301a|\u0301|·中文あ|12|ab", "qwen2": "e|\u0301a|\u0301|·中文あ|1|2|ab",
			"qwen35": "e\u0301a\u0301|·中文あ|1|2|ab", "minimax-m2": "e\u0301a\u0301|·中文あ|12|ab",
			"deepseek-v3": "e\u0301a\u0301|·|中文あ|12|ab",
		}},
		{"   \n  end  ", map[string]string{
			"llama-bpe": "···\n|·|·end|··", "qwen35": "···\n|·|·end|··", "minimax-m2": "···\n|·|·end|··", "deepseek-v3": "···\n|·|·end|··",
			"gpt-2": "···\n·|·end|··",
		}},
		{"a\u00A0bZ\u200Dc ...\n/x", map[string]string{
			"llama-bpe": "a|\u00A0bZ|\u200Dc|·...\n|/x", "minimax-m2": "a|\u00A0b|Z|\u200Dc|·...\n/|x", "deepseek-v3": "a|\u00A0bZ|\u200Dc|·...\n|/x",
		}},
		{"Hello  12", map[string]string{
			"llama-bpe": "Hello|·|·|12", "qwen2": "Hello|·|·|1|2", "deepseek-v3": "Hello|··|12",
		}},
		{"a\x00\x01\u200D12 \u3000。x", map[string]string{
			"deepseek-v3": "a|\x00\x01\u200D|12|·|\u3000|。|x", "deepseek-llm": "a|\x00\x01|\u200D|12|·|\u3000。|x",
		}},
		{"+1,000 $x\r\n12345", map[string]string{
			"default": "+|1|,|000|·|$|x|\r|\n|123|45", "deepseek-coder": "+|1|,|0|0|0|·$|x|\r|\n|1|2|3|4|5",
		}},
	} {
		for name, want := range c.want {
			cut, _ := pieces(preTokenizerNames[name](), c.text)
			if got := strings.ReplaceAll(strings.Join(cut, "|"), " ", "·"); got != want {
				t.Errorf("%s cuts %q as %q, want %q", name, c.text, got, want)
			}
		}
	}
}

// alphabetOfTests has characters of every class, the ones that expressions name, and bytes that are not UTF-8.
var alphabetOfTests = strings.Split("a b Z s T ' ll re é Ж ж ǅ ʰ 中 あ 한 1 ٣ ² Ⅷ \u0301 \u20DD . , - _ $ + ~ / 。 € \t \n \r \u00A0 \u3000 \u2028 \u200D \x00 \uFFFD 😀 \u00AD \xFF \xE2\x82", " ")

func randomText(random *rand.Rand, characters int) string {
	var b strings.Builder
	for range characters {
		if random.IntN(4) == 0 {
			b.WriteByte(' ')
		} else {
			b.WriteString(alphabetOfTests[random.IntN(len(alphabetOfTests))])
		}
	}
	return b.String()
}

// TestSplitsKeepText checks that the pieces are the text, and that none is empty.
func TestSplitsKeepText(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for name, make := range preTokenizerNames {
		for range 300 {
			text := randomText(random, random.IntN(30))
			cut, _ := pieces(make(), text)
			if strings.Join(cut, "") != text || slices.Contains(cut, "") {
				t.Fatalf("%s cuts %q as %q", name, text, cut)
			}
		}
	}
}

// TestSplitsLinear counts the characters that each pre-tokenizer looks at in texts that repeat one thing, the kind that
// makes a scanner begin again at every place.
func TestSplitsLinear(t *testing.T) {
	const size = 4000
	units := []string{"a", "A", "aB", "Ba", " ", "  \u3000", "\n", " \n", "\r\n ", "1", "٣", ".", " .", ".a", "'s", "'", "\u0301", "中", "あa", "ʰA",
		"Aʰ", "\x00", "\x00 ", "\xFF", "/", ". /", "\u00A0", "\u3000", "\u3000。", "a ", "1 ", "$\n"}
	for _, name := range []string{"llama-bpe", "qwen35", "minimax-m2", "deepseek-v3", "deepseek-coder", "deepseek-llm", "gpt-2", "default"} {
		make := preTokenizerNames[name]
		for _, unit := range units {
			for _, end := range []string{"", "x", " ", "\n", "1"} {
				text := strings.Repeat(unit, size/len(unit)) + end
				_, reads := pieces(make(), text)
				// Each stage looks at a character at most twelve times: in alternatives that do not match, and once as the
				// character behind a match.
				if most := 12 * len(make().stages) * (utf8.RuneCountInString(text) + 2); reads > most {
					t.Errorf("%s: %q repeated %d times, then %q: looked at %d characters, want at most %d", name, unit, size/len(unit), end, reads, most)
				}
			}
		}
	}
}

func TestClassOf(t *testing.T) {
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if got, want := classOf(r), unicodeClass(r); got != want {
			t.Fatalf("classOf(%U) = %b, want %b", r, got, want)
		}
	}
}

func TestCanonicalExpressions(t *testing.T) {
	for expression, want := range map[string]string{
		"[\r\n]":          `[\r\n]`,
		"[é-ía]+|x":       `[\x{61}-\x{61}\x{E9}-\x{ED}]+|x`,
		"[一-三ࠀ-一]":        `[\x{800}-\x{4E09}]`,
		`[^\p{L}]?[A-Z]+`: `[^\p{L}]?[A-Z]+`,
		`[é`:              `[é`,
	} {
		if got := canonical(expression); got != want {
			t.Errorf("canonical(%q) = %q, want %q", expression, got, want)
		}
	}
}
