package weights

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
)

// A reranker says how well a document answers a query by how much likelier "yes" is than "no". Converters to GGUF write the
// two rows of its head as cls.output.weight, in that order (ggml-org/llama.cpp, conversion/qwen.py). Checkpoints come in two
// forms: the model that continues texts, which only its name tells apart, and one whose head is a class, the difference of
// the rows.

const classTensor = "cls.output.weight"

// ranking are the tokens whose rows of the head are the classes.
type ranking struct{ yes, no int }

// readRanking finds the tokens of a Qwen3-Reranker; nil for other models.
func readRanking(md *Metadata, folder string) (*ranking, error) {
	arch, _ := md.String("general.architecture")
	if _, pooled := md.Get(arch + "." + poolingKey); pooled || arch != "qwen3" {
		return nil, nil
	}
	name, _ := md.String("general.name")
	readme, err := readOptional(filepath.Join(folder, "README.md"))
	if err != nil {
		return nil, err
	}
	absolute, err := filepath.Abs(folder)
	if err != nil {
		return nil, err
	}
	const title = "qwen3-reranker"
	names := strings.ToLower(name + "\n" + filepath.Base(absolute))
	if !strings.Contains(names, title) && !strings.Contains(strings.ToLower(string(readme)), "# "+title) {
		return nil, nil
	}
	const file = "tokenizer.json"
	data, err := readFile(filepath.Join(folder, file))
	if err != nil {
		return nil, err
	}
	var tokenizer struct {
		Model struct {
			Vocab map[string]int32 `json:"vocab"`
		} `json:"model"`
	}
	if err := json.Unmarshal(data, &tokenizer); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, file, err)
	}
	yes, hasYes := tokenizer.Model.Vocab["yes"]
	no, hasNo := tokenizer.Model.Vocab["no"]
	if !hasYes || !hasNo || yes < 0 || no < 0 {
		return nil, fmt.Errorf("%w: %s: a reranker needs the tokens \"yes\" and \"no\"", ErrCorrupt, file)
	}
	md.Set(arch+"."+poolingKey, uint32(poolingRank))
	return &ranking{int(yes), int(no)}, nil
}

// addRanking enters the classes of a reranker as rows of its head, which may be the embedding.
func (a *assembly) addRanking(r *ranking) error {
	head := a.outer["output.weight"]
	if head == nil {
		head = a.outer["token_embd.weight"]
	}
	if head == nil {
		return fmt.Errorf("%w: a reranker needs the tensor %q", ErrCorrupt, "token_embd.weight")
	}
	grids, err := a.grids(head)
	if err != nil {
		return err
	}
	if len(head.shape) != 2 || max(r.yes, r.no) >= head.shape[0] {
		return fmt.Errorf("%w: %s: want rows for the tokens %d and %d", ErrCorrupt, head, r.yes, r.no)
	}
	rows := []int{r.yes, r.no}
	classes := grids[0].gather(len(rows), func(i int) int { return rows[i] })
	return a.add(classTensor, []int{len(rows), classes.cols}, nil, classes)
}

// addClass enters the one class of a reranker, beside which the other is zero.
func (a *assembly) addClass(t *rawTensor) error {
	class, err := a.vector(t)
	size := class.rowBytes()
	classes := class.derived(class.encoding, 2, class.cols, func(dst []byte, first, last int) {
		clear(dst)
		if first == 0 && last > 0 {
			class.put(dst[:size], 0, 1)
		}
	})
	return a.add(classTensor, []int{2, class.cols}, err, classes)
}
