package weights

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Hugging Face folder: config.json holds the hyperparameters, the weights are one file or shards with an index, and a
// few files beside them hold what GGUF keeps in its metadata.
const (
	configFile     = "config.json"
	singleFile     = "model.safetensors"
	indexFile      = "model.safetensors.index.json"
	generationFile = "generation_config.json"
	tokenizerFile  = "tokenizer_config.json"
	templateFile   = "chat_template.jinja"
)

// openFolder opens the model in a folder: Hugging Face weights, or a single GGUF model.
func openFolder(folder string) (*source, error) {
	for _, name := range []string{indexFile, singleFile} {
		path := filepath.Join(folder, name)
		if _, err := os.Stat(path); err == nil {
			if name == indexFile {
				return openIndex(path, filepath.Join(folder, configFile))
			}
			return openSafetensors(path)
		}
	}
	candidates, err := modelFiles(folder)
	if err != nil {
		return nil, err
	}
	switch len(candidates) {
	case 0:
		return nil, fmt.Errorf("%w: the folder holds no %s, %s or .gguf file", ErrUnsupported, singleFile, indexFile)
	case 1:
		if strings.HasSuffix(candidates[0], ".gguf") {
			return openGGUF(candidates[0])
		}
		return openSafetensors(candidates[0])
	}
	return nil, fmt.Errorf("%w: the folder holds several models, name one: %s", ErrUnsupported, strings.Join(candidates, ", "))
}

// modelFiles lists the files of a folder that may be opened, only the first part of each split one.
func modelFiles(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		name := e.Name()
		part := partName.FindStringSubmatch(name)
		if part != nil && part[2] != "00001" {
			continue
		}
		if ext := filepath.Ext(name); ext == ".gguf" || ext == ".safetensors" {
			paths = append(paths, filepath.Join(folder, name))
		}
	}
	return paths, nil
}

// openSafetensors opens one safetensors file, with the configuration beside it where there is one.
func openSafetensors(path string) (*source, error) {
	m, err := openMapping(path)
	if err != nil {
		return nil, err
	}
	tensors, md, err := parseSafetensors(m.data)
	if err != nil {
		m.close()
		return nil, err
	}
	b := &checkpoint{extra: md, files: []*mapping{m}}
	b.take(filepath.Base(path), tensors)
	config, err := readOptional(filepath.Join(filepath.Dir(path), configFile))
	if err == nil && config != nil {
		err = b.configure(filepath.Dir(path), config)
	}
	return b.finish(err)
}

// safetensorsSource opens a safetensors file that lies in memory, without a configuration.
func safetensorsSource(data []byte) (*source, error) {
	tensors, md, err := parseSafetensors(data)
	if err != nil {
		return nil, err
	}
	b := &checkpoint{tensors: tensors, extra: md}
	return b.finish(nil)
}

// openJSON opens what a JSON file describes: the index of shards, or a configuration with the weights beside it.
func openJSON(path string) (*source, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	folder := filepath.Dir(path)
	switch {
	case fields["weight_map"] != nil:
		return openIndex(path, filepath.Join(folder, configFile))
	case fields["model_type"] == nil && fields["architectures"] == nil && fields["hidden_size"] == nil:
		return nil, fmt.Errorf("%w: neither an index of shards nor the configuration of a model", ErrUnsupported)
	}
	if _, err := os.Stat(filepath.Join(folder, indexFile)); err == nil {
		return openIndex(filepath.Join(folder, indexFile), path)
	}
	b := &checkpoint{}
	if m, err := openMapping(filepath.Join(folder, singleFile)); err == nil {
		b.files = append(b.files, m)
		tensors, md, err := parseSafetensors(m.data)
		if err != nil {
			return b.finish(fmt.Errorf("%s: %w", singleFile, err))
		}
		b.extra = md
		b.take(singleFile, tensors)
	} else if !errors.Is(err, fs.ErrNotExist) { // a configuration alone still shows what the model would be
		return nil, err
	}
	return b.finish(b.configure(folder, data))
}

// openIndex opens the shards that an index names. The index decides which shard a tensor comes from.
func openIndex(path, configPath string) (*source, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("%w: index: %w", ErrCorrupt, err)
	}
	folder := filepath.Dir(path)
	var shards []string
	for tensor, shard := range index.WeightMap {
		if !filepath.IsLocal(shard) || !strings.HasSuffix(shard, ".safetensors") {
			return nil, fmt.Errorf("%w: index: tensor %q: %q is not the name of a safetensors file in this folder", ErrCorrupt, tensor, shard)
		}
		shards = append(shards, shard)
	}
	slices.Sort(shards)
	b := &checkpoint{}
	found := 0
	for _, shard := range slices.Compact(shards) {
		tensors, err := b.openShard(filepath.Join(folder, shard))
		if err != nil {
			return b.finish(fmt.Errorf("shard %s: %w", shard, err))
		}
		tensors = slices.DeleteFunc(tensors, func(t rawTensor) bool { return index.WeightMap[t.name] != shard })
		found += len(tensors)
		b.take(shard, tensors)
	}
	if found != len(index.WeightMap) {
		return b.finish(b.missing(index.WeightMap))
	}
	config, err := readOptional(configPath)
	if err == nil && config != nil {
		err = b.configure(folder, config)
	}
	return b.finish(err)
}

// checkpoint collects what a Hugging Face model consists of.
type checkpoint struct {
	tensors []rawTensor
	extra   *Metadata // of the safetensors header
	md      *Metadata // under GGUF keys, nil without a configuration
	tiling  tiling    // of scales, zeros without a configuration
	ranking *ranking  // nil but for rerankers
	files   []*mapping
}

// take adds the tensors of a file.
func (b *checkpoint) take(file string, tensors []rawTensor) {
	for i := range tensors {
		tensors[i].file = file
	}
	b.tensors = append(b.tensors, tensors...)
}

// predicts reports whether there are prediction blocks. Without any tensors the configuration is to be believed.
func (b *checkpoint) predicts() bool {
	return len(b.tensors) == 0 || slices.ContainsFunc(b.tensors, func(t rawTensor) bool {
		return strings.HasPrefix(t.name, "mtp.") || strings.HasPrefix(t.name, "model.mtp.") || strings.HasSuffix(t.name, ".eh_proj.weight")
	})
}

func (b *checkpoint) openShard(path string) ([]rawTensor, error) {
	m, err := openMapping(path)
	if err != nil {
		return nil, err
	}
	b.files = append(b.files, m)
	tensors, md, err := parseSafetensors(m.data)
	if b.extra == nil {
		b.extra = md
	}
	return tensors, err
}

// missing names a tensor that the index promises and no shard has.
func (b *checkpoint) missing(weightMap map[string]string) error {
	have := map[string]bool{}
	for _, t := range b.tensors {
		have[t.name] = true
	}
	var absent []string
	for name := range weightMap {
		if !have[name] {
			absent = append(absent, name)
		}
	}
	slices.Sort(absent)
	return fmt.Errorf("%w: index: tensor %q is not in shard %s", ErrCorrupt, absent[0], weightMap[absent[0]])
}

// configure reads the configuration and the files beside it.
func (b *checkpoint) configure(folder string, config []byte) error {
	b.md = NewMetadata()
	tiling, err := readConfig(b.md, config, b.predicts())
	if err != nil {
		return err
	}
	b.tiling = tiling
	if err := readPooling(b.md, folder); err != nil {
		return err
	}
	if b.ranking, err = readRanking(b.md, folder); err != nil {
		return err
	}
	generation, err := readOptional(filepath.Join(folder, generationFile))
	if err == nil && generation != nil {
		err = readGeneration(b.md, generation)
	}
	if err != nil {
		return err
	}
	return readTemplates(b.md, folder)
}

// finish gives the tensors their names and returns the source, or closes the files on an error.
func (b *checkpoint) finish(err error) (*source, error) {
	s := newSource(HuggingFace)
	s.files = b.files
	if b.md != nil {
		s.md = b.md
	}
	if b.extra != nil {
		for _, key := range b.extra.Keys() {
			value, _ := b.extra.Get(key)
			s.md.Set(key, value)
		}
	}
	if err == nil {
		err = s.addRenamed(b)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// readOptional reads a file that may be absent; then the result is nil.
func readOptional(path string) ([]byte, error) {
	data, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}
