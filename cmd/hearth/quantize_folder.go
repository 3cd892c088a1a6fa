package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"hearth/engine/model"
	"hearth/engine/weights"
)

// completeFolder gives the conversion of a Hugging Face checkpoint what a GGUF file keeps in its metadata and tensors and
// the checkpoint in other files: the vocabulary, a name, and the frequencies of Llama 3.1's rotary embedding. The note
// says what is missing.
func completeFolder(src weights.Source, options *weights.ConvertOptions) (note string, err error) {
	md := src.Metadata().Clone()
	options.Metadata = md
	if arch, ok := md.String("general.architecture"); !ok || arch == "" {
		return "", fmt.Errorf("%s: there is no config.json that says what these tensors are", src.Path())
	}
	folder := src.Path()
	if info, err := os.Stat(folder); err == nil && !info.IsDir() {
		folder = filepath.Dir(folder)
	}
	if _, ok := md.String("general.name"); !ok {
		if absolute, err := filepath.Abs(folder); err == nil {
			md.Set("general.name", filepath.Base(absolute))
		}
	}
	if err := moveFrequencies(src, md, options); err != nil {
		return "", err
	}
	path := filepath.Join(folder, "tokenizer.json")
	v, err := readVocabulary(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "there is no tokenizer.json with it: the model will compute logits, but cannot be served", nil
	}
	if err != nil {
		return "", err
	}
	embedding, err := src.Describe("token_embd.weight")
	if err != nil {
		return "", err
	}
	if len(embedding.Shape) != 2 || embedding.Shape[0] < len(v.tokens) {
		return "", fmt.Errorf("%w: %s has %d tokens, tensor %q the shape %v", weights.ErrCorrupt, path, len(v.tokens), embedding.Name, embedding.Shape)
	}
	v.template = "" // that of the folder is among the keys already
	v.describe(md, embedding.Shape[0])
	return "", nil
}

// moveFrequencies turns the keys of Llama 3.1's scaling into the tensor by which GGUF files say it.
func moveFrequencies(src weights.Source, md *weights.Metadata, options *weights.ConvertOptions) error {
	arch, _ := md.String("general.architecture")
	prefix := arch + ".rope.scaling."
	if kind, _ := md.String(prefix + "type"); kind != "llama3" {
		return nil
	}
	config, err := model.ReadConfig(src)
	if err != nil {
		return err
	}
	factors := weights.ExtraTensor{Name: ropeFactorsName}
	for _, d := range config.Rope.Scaling.Divisors(config.Rope.Dim, config.Rope.Theta) {
		factors.Values = append(factors.Values, float32(d))
	}
	options.Extra = append(options.Extra, factors)
	for _, name := range []string{"type", "factor", "low_freq_factor", "high_freq_factor", "original_context_length"} {
		md.Delete(prefix + name)
	}
	return nil
}
