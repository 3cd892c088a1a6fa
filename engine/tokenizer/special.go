package tokenizer

import "slices"

// endTexts are the texts of tokens that end a generation: of a sequence, a turn, a message. Files often name only one of
// them as their EOS token, or give them the type of ordinary text (the list is that of llama.cpp's src/llama-vocab.cpp,
// with MiniMax's end of turn).
var endTexts = []string{
	"<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
	"<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<end_of_utterance>",
	"<eos>", "<turn|>", "<|tool_response>", "<｜end▁of▁sentence｜>", "[e~[",
}

// fimTexts are the texts of fill-in-the-middle tokens: of what comes before the hole, after it, and of the hole.
// DeepSeek names the token in the place of the hole after it, and the one that asks for its text "end".
var fimTexts = [3][]string{
	{"<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<PRE>", "▁<PRE>", "<｜fim▁begin｜>", "<|code_prefix|>"},
	{"<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<SUF>", "▁<SUF>", "<｜fim▁hole｜>", "<|code_suffix|>"},
	{"<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<MID>", "▁<MID>", "<｜fim▁end｜>", "<|code_middle|>"},
}

// fimEndTexts are the texts of tokens that end what a model puts into the hole: padding, and the beginning of another
// repository or file.
var fimEndTexts = []string{
	"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>",
	"<reponame>", "<|file_sep|>",
}

// findSpecial finds the tokens with a purpose by their ids or else their texts. It makes control tokens of those that the
// file calls something else: they are no text, neither in a prompt nor in an answer.
func (d *definition) findSpecial(t *Tokenizer, ids map[string]int32) {
	t.eog = slices.Clone(d.ends)
	if t.eos >= 0 {
		t.eog = append(t.eog, t.eos)
	}
	find := func(texts []string) int32 {
		for _, text := range texts {
			id, ok := ids[text]
			if !ok || t.kinds[id] == unused || t.kinds[id] == byteToken || t.kinds[id] == normal && d.isMerged(text) {
				continue
			}
			if t.kinds[id] != unknown {
				t.kinds[id] = control
			}
			return id
		}
		return -1
	}
	for _, text := range slices.Concat(endTexts, fimEndTexts) {
		if id := find([]string{text}); id >= 0 {
			t.eog = append(t.eog, id)
		}
	}
	// A vocabulary with both of these is that of gpt-oss, where <|end|> ends a message but not the turn.
	_, returns := ids["<|return|>"]
	_, calls := ids["<|call|>"]
	if end, ok := ids["<|end|>"]; ok && returns && calls {
		t.eog = slices.DeleteFunc(t.eog, func(id int32) bool { return id == end })
	}
	t.eog = sortedSet(t.eog)

	fim := d.fim
	for i, texts := range fimTexts {
		if fim[i] < 0 {
			fim[i] = find(texts)
		}
	}
	t.fim = FIM{Prefix: fim[0], Suffix: fim[1], Middle: fim[2]}
	t.hasFIM = fim[0] >= 0 && fim[1] >= 0 && fim[2] >= 0

	t.suppressed = slices.Clone(d.suppressed)
	for id, k := range t.kinds {
		if k == unused {
			t.suppressed = append(t.suppressed, int32(id))
		}
	}
	t.suppressed = sortedSet(t.suppressed)
}

// isMerged reports whether a merge makes this text: then it is a word like any other, as "</s>" may be in a vocabulary
// made from web pages.
func (d *definition) isMerged(text string) bool {
	return slices.ContainsFunc(d.merges, func(merge string) bool {
		left, right, ok := cutMerge(merge)
		return ok && len(left)+len(right) == len(text) && text[:len(left)] == left && text[len(left):] == right
	})
}

func sortedSet(ids []int32) []int32 {
	slices.Sort(ids)
	return slices.Compact(ids)
}
