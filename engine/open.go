package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hearth/engine/chat"
	"hearth/engine/embedded"
	"hearth/engine/tokenizer"
	"hearth/engine/weights"
)

// OpenSource opens a model file or folder. The empty path and the embedded model's name open the embedded model.
func OpenSource(path string) (weights.Source, error) {
	if path == "" || path == embedded.Name {
		return weights.OpenBytes(embedded.Name+".gguf", embedded.Model)
	}
	return weights.Open(path)
}

// OpenTokenizer reads a model's tokenizer: the metadata of a GGUF file, or the tokenizer.json beside other weights.
func OpenTokenizer(src weights.Source) (*tokenizer.Tokenizer, error) {
	if src.Origin() == weights.GGUF {
		return tokenizer.FromMetadata(src.Metadata())
	}
	return OpenTokenizerFolder(folderOf(src.Path()))
}

// OpenTokenizerPath reads the tokenizer of a GGUF file, which need not have tensors, of a Hugging Face folder, which need
// not have weights, or of a tokenizer.json, with the configuration files beside it. The empty path is the embedded model.
func OpenTokenizerPath(path string) (*tokenizer.Tokenizer, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		if _, err := os.Stat(filepath.Join(path, tokenizerFile)); err == nil {
			return OpenTokenizerFolder(path)
		}
	}
	if filepath.Ext(path) == ".json" {
		return openTokenizerFile(path)
	}
	src, err := OpenSource(path)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	return OpenTokenizer(src)
}

// tokenizerFile is what Hugging Face folders call their vocabulary.
const tokenizerFile = "tokenizer.json"

// maxTokenizerBytes bounds what is read into memory; published files have up to 35 MB.
const maxTokenizerBytes = 512 << 20

// OpenTokenizerFolder reads tokenizer.json and the configuration files beside it.
func OpenTokenizerFolder(folder string) (*tokenizer.Tokenizer, error) {
	return openTokenizerFile(filepath.Join(folder, tokenizerFile))
}

func openTokenizerFile(path string) (*tokenizer.Tokenizer, error) {
	var files [3][]byte
	for i, name := range [3]string{filepath.Base(path), "tokenizer_config.json", "generation_config.json"} {
		data, err := readBounded(filepath.Join(filepath.Dir(path), name), maxTokenizerBytes)
		if err != nil && (i == 0 || !errors.Is(err, fs.ErrNotExist)) {
			return nil, fmt.Errorf("engine: tokenizer: %w", err)
		}
		files[i] = data
	}
	return tokenizer.FromJSON(files[0], files[1], files[2])
}

// OpenTemplate returns the model's chat template; a model that has none gets the fallback.
func OpenTemplate(src weights.Source, tok *tokenizer.Tokenizer) (*chat.Template, error) {
	source, ok := src.Metadata().String("tokenizer.chat_template")
	if !ok || source == "" {
		return chat.Fallback(), nil
	}
	return chat.New(source, tokenText(tok, tok.BOS), tokenText(tok, tok.EOS))
}

// stopTokens are the ids that end a generation: the end-of-generation tokens, and the begin-of-sequence token of
// models that start with one, since it begins another text.
func stopTokens(tok *tokenizer.Tokenizer) []int32 {
	stops := slices.Clone(tok.EOG())
	if bos, ok := tok.BOS(); ok && tok.AddBOS() && !slices.Contains(stops, bos) {
		stops = append(stops, bos)
	}
	return stops
}

// bannedTokens are the ids that are never drawn: those the tokenizer suppresses, and rows of the head without a token.
func bannedTokens(tok *tokenizer.Tokenizer, rows int) []int32 {
	banned := slices.Clone(tok.Suppressed())
	for id := tok.VocabSize(); id < rows; id++ {
		banned = append(banned, int32(id))
	}
	return banned
}

// folderOf returns the folder that a model path names or lies in.
func folderOf(path string) string {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return path
	}
	return filepath.Dir(path)
}

// readBounded reads a regular file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("%s is not a regular file of at most %d bytes", path, limit)
	}
	return os.ReadFile(path)
}

// modelID is the name that a model file is served under: the file's or the folder's, without its extension and
// without the number of a split file.
func modelID(path string) string {
	id := filepath.Base(filepath.Clean(path))
	for _, suffix := range []string{".gguf", ".safetensors", ".index.json", ".json"} {
		id = strings.TrimSuffix(id, suffix)
	}
	if i := strings.LastIndex(id, "-00001-of-"); i > 0 {
		id = id[:i]
	}
	if id == "model" || id == "config" || id == "model.safetensors" { // names that every folder uses
		id = filepath.Base(folderOf(path))
	}
	return id
}

// tokenText is the text of a special token, empty when the vocabulary has none.
func tokenText(tok *tokenizer.Tokenizer, special func() (int32, bool)) string {
	id, ok := special()
	if !ok {
		return ""
	}
	text, _ := tok.Token(id)
	return text
}
