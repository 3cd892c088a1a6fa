package tokenizer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// component is a normalizer, a pre-tokenizer or a post-processor of tokenizer.json; the fields are those of all types.
type component struct {
	Type string `json:"type"`

	Normalizers   []component `json:"normalizers"`   // Sequence
	PreTokenizers []component `json:"pretokenizers"` // Sequence
	Processors    []component `json:"processors"`    // Sequence

	Pattern          patternJSON `json:"pattern"` // Split, Replace
	Behavior         string      `json:"behavior"`
	Invert           bool        `json:"invert"`
	IndividualDigits bool        `json:"individual_digits"` // Digits
	AddPrefixSpace   *bool       `json:"add_prefix_space"`  // ByteLevel, Metaspace
	UseRegex         *bool       `json:"use_regex"`         // ByteLevel
	Prepend          string      `json:"prepend"`           // Prepend
	Content          string      `json:"content"`           // Replace
	Replacement      string      `json:"replacement"`       // Metaspace
	PrependScheme    string      `json:"prepend_scheme"`    // Metaspace
	Split            *bool       `json:"split"`             // Metaspace

	Single []struct { // TemplateProcessing
		SpecialToken *struct {
			ID string `json:"id"`
		} `json:"SpecialToken"`
		Sequence *struct{} `json:"Sequence"`
	} `json:"single"`
}

type patternJSON struct {
	Regex  *string `json:"Regex"`
	String *string `json:"String"`
}

// Expressions that published tokenizer.json files consist of.
const (
	anyCaseContraction = `(?i:'s|'t|'re|'ve|'m|'ll|'d)`
	whitespaceEnd      = `|\s*[\r\n]+|\s+(?!\S)|\s+`
	llamaHead          = anyCaseContraction + `|[^\r\n\p{L}\p{N}]?\p{L}+|`
	llamaTail          = `| ?[^\s\p{L}\p{N}]+[\r\n]*` + whitespaceEnd
	upperClass         = `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`
	lowerClass         = `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`
	o200kPrefix        = `[^\r\n\p{L}\p{N}]?`
	gpt2Expression     = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
)

// knownSplits are the pre-tokenizers that are recognised, by their expressions in the form of canonical.
var knownSplits = []struct {
	expressions []string
	split       func() preTokenizer
}{
	{[]string{llamaHead + `\p{N}{1,3}` + llamaTail}, llama3},
	{[]string{llamaHead + `\p{N}` + llamaTail}, qwen2},
	{[]string{anyCaseContraction + `|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*` + whitespaceEnd}, qwen35},
	{[]string{o200kPrefix + upperClass + `*` + lowerClass + `+` + anyCaseContraction + `?|` + o200kPrefix + upperClass + `+` +
		lowerClass + `*` + anyCaseContraction + `?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*` + whitespaceEnd}, o200k},
	{[]string{`\p{N}{1,3}`, canonical(`[一-龥぀-ゟ゠-ヿ]+`),
		"[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|" + `[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*` + whitespaceEnd}, deepseekV3},
	{[]string{`[\r\n]`, `\s?\p{L}+`, `\s?\p{P}+`, canonical(`[一-龥ࠀ-一가-퟿]+`), `\p{N}`}, deepseekCoder},
	{[]string{`[\r\n]`, `\s?` + classOfRanges(alphabeticRanges) + `+`, canonical(`\s?[!-/:-~！-／：-～‘-‟　-。]+`), `\s+$`,
		canonical(`[一-龥ࠀ-一가-퟿]+`), `\p{N}+`}, deepseekLLM},
	{[]string{gpt2Expression}, gpt2},
}

// identify recognises how text is normalized and cut.
func (f *tokenizerFile) identify(d *definition) error {
	var expressions []string
	byteLevel, nfc := false, false
	var prefix, replaced bool
	for _, step := range f.Normalizer.flatten() {
		switch {
		case step.Type == "NFC":
			nfc = true
		case step.Type == "Prepend" && step.Prepend == spaceSymbol:
			prefix = true
		case step.Type == "Replace" && step.Pattern.String != nil && *step.Pattern.String == " " && step.Content == spaceSymbol:
			replaced = true
		default:
			return fmt.Errorf("normalizer %q is not supported", step.Type)
		}
	}
	for _, step := range f.PreTokenizer.flatten() {
		switch step.Type {
		case "ByteLevel":
			byteLevel = true
			if step.AddPrefixSpace == nil || *step.AddPrefixSpace {
				return errors.New("pre_tokenizer ByteLevel with add_prefix_space is not supported")
			}
			if step.UseRegex == nil || *step.UseRegex {
				expressions = append(expressions, gpt2Expression)
			}
		case "Split", "Digits":
			expression, err := step.expression()
			if err != nil {
				return err
			}
			expressions = append(expressions, expression)
		case "Metaspace":
			if step.Split == nil || *step.Split || step.Replacement != spaceSymbol {
				return errors.New("pre_tokenizer Metaspace is supported only with split false and replacement ▁")
			}
			replaced = true
			d.spacePrefix = step.scheme()
		default:
			return fmt.Errorf("pre_tokenizer %q is not supported", step.Type)
		}
	}
	if replaced && !byteLevel && len(expressions) == 0 {
		d.characters, d.split.nfc = true, nfc
		if prefix {
			d.spacePrefix = prefixAll
		}
		return nil
	}
	if !byteLevel || replaced || prefix {
		return errors.New("neither the byte-level nor the SentencePiece kind of BPE: pre_tokenizer has no ByteLevel, or normalizer and pre_tokenizer mix both")
	}
	for _, known := range knownSplits {
		if slices.Equal(known.expressions, expressions) {
			d.split = known.split()
			d.split.nfc, d.split.addBOS = nfc, false
			return nil
		}
	}
	return fmt.Errorf("pre_tokenizer: the expressions %s are not known", abbreviateAll(expressions))
}

// flatten returns the steps of nested sequences in order.
func (c *component) flatten() []component {
	if c == nil {
		return nil
	}
	if c.Type != "Sequence" {
		return []component{*c}
	}
	var steps []component
	for _, list := range [][]component{c.Normalizers, c.PreTokenizers, c.Processors} {
		for i := range list {
			steps = append(steps, list[i].flatten()...)
		}
	}
	return steps
}

// expression returns the regular expression whose matches a pre-tokenizer isolates.
func (c *component) expression() (string, error) {
	if c.Type == "Digits" {
		if c.IndividualDigits {
			return `\p{N}`, nil
		}
		return `\p{N}+`, nil
	}
	if c.Pattern.Regex == nil {
		return "", errors.New("pre_tokenizer Split without a Regex is not supported")
	}
	// To keep the matches and remove what lies between is the same where the matches leave nothing between them.
	if isolated := c.Behavior == "Isolated" && !c.Invert; !isolated && !(c.Behavior == "Removed" && c.Invert) {
		return "", fmt.Errorf("pre_tokenizer Split with behavior %q, invert %t is not supported", c.Behavior, c.Invert)
	}
	return canonical(*c.Pattern.Regex), nil
}

func (c *component) scheme() spacePrefix {
	switch c.PrependScheme {
	case "first":
		return prefixFirstAbsent
	case "never":
		return noPrefix
	case "":
		if c.AddPrefixSpace != nil && !*c.AddPrefixSpace {
			return noPrefix
		}
	}
	return prefixAbsent
}

// fillAffixes reads which tokens the post-processor puts around a text.
func (f *tokenizerFile) fillAffixes(d *definition) error {
	for _, step := range f.PostProcessor.flatten() {
		if step.Type != "TemplateProcessing" {
			continue
		}
		special, add := &d.bos, &d.addBOS
		for _, part := range step.Single {
			if part.Sequence != nil {
				special, add = &d.eos, &d.addEOS
				continue
			}
			if part.SpecialToken == nil {
				continue
			}
			id, ok := d.idOf(part.SpecialToken.ID)
			if !ok || *add {
				return fmt.Errorf("post_processor: %q is not in the vocabulary, or the second token on its side", abbreviate(part.SpecialToken.ID))
			}
			*special, *add = id, true
		}
	}
	return nil
}

// canonical writes an expression in one way: line breaks as escapes, and classes with characters outside ASCII as sorted
// ranges of code points.
func canonical(expression string) string {
	expression = strings.NewReplacer("\r", `\r`, "\n", `\n`).Replace(expression)
	var out strings.Builder
	for {
		open := strings.IndexByte(expression, '[')
		if open < 0 {
			break
		}
		length := strings.IndexByte(expression[open:], ']')
		if length < 0 {
			break
		}
		class := expression[open : open+length+1]
		out.WriteString(expression[:open])
		expression = expression[open+length+1:]
		if ranges, ok := literalRanges(class[1:length]); ok {
			class = classOfRanges(ranges)
		}
		out.WriteString(class)
	}
	return out.String() + expression
}

// literalRanges reads the inside of a character class of plain characters and ranges, some of them outside ASCII.
func literalRanges(inside string) ([][2]rune, bool) {
	if strings.ContainsAny(inside, `\[^`) || len(inside) == utf8.RuneCountInString(inside) {
		return nil, false
	}
	characters := []rune(inside)
	var ranges [][2]rune
	for i := 0; i < len(characters); i++ {
		r := [2]rune{characters[i], characters[i]}
		if i+2 < len(characters) && characters[i+1] == '-' {
			r[1] = characters[i+2]
			i += 2
		}
		ranges = append(ranges, r)
	}
	return ranges, true
}

// classOfRanges writes a class of ranges, sorted and without overlaps.
func classOfRanges(ranges [][2]rune) string {
	sorted := slices.Clone(ranges)
	slices.SortFunc(sorted, func(a, b [2]rune) int { return int(a[0]) - int(b[0]) })
	var joined [][2]rune
	for _, r := range sorted {
		if last := len(joined) - 1; last >= 0 && r[0] <= joined[last][1]+1 {
			joined[last][1] = max(joined[last][1], r[1])
		} else {
			joined = append(joined, r)
		}
	}
	var out strings.Builder
	out.WriteByte('[')
	for _, r := range joined {
		fmt.Fprintf(&out, `\x{%X}-\x{%X}`, r[0], r[1])
	}
	out.WriteByte(']')
	return out.String()
}

func abbreviateAll(texts []string) string {
	quoted := make([]string, len(texts))
	for i, text := range texts {
		quoted[i] = fmt.Sprintf("%q", text)
	}
	return strings.Join(quoted, ", ")
}
