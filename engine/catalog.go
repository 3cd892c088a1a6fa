package engine

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"hearth/engine/chat"
	"hearth/engine/embedded"
	"hearth/engine/tokenizer"
	"hearth/engine/weights"
	"hearth/hardware/quant"
)

// ErrUnknownModel says that no model of that name is served.
var ErrUnknownModel = errors.New("engine: unknown model")

// ErrLoading says that the model is still being loaded.
var ErrLoading = errors.New("engine: model is loading")

// Served is one model ready to answer. It is read-only, and its parts are safe for concurrent use.
type Served struct {
	ID            string
	Path          string // empty for the embedded model
	Created       time.Time
	Architecture  string
	Name          string // general.name, may be empty
	Parameters    int64
	Quantization  string // format of most of its weights
	WeightBytes   int64  // as stored in the file
	Digest        string // names the file's contents without reading all of it
	TrainedLength int    // positions the model was trained for

	Engine    *Engine
	Tokenizer *tokenizer.Tokenizer
	Template  *chat.Template
}

// Catalog holds the models of one process. Its methods are safe for concurrent use.
type Catalog struct {
	mu      sync.Mutex // guards the fields below; never held while a model loads
	served  map[string]*Served
	order   []string
	loading map[string]Progress
	failed  error
}

// Progress says how far a model is loaded.
type Progress struct {
	ID                    string
	DoneBytes, TotalBytes int64
}

// NewCatalog returns an empty catalog.
func NewCatalog() *Catalog {
	return &Catalog{served: map[string]*Served{}, loading: map[string]Progress{}}
}

// Load opens a model and starts its engine; the model is found under its id when Load returns. The empty path is the
// embedded model, an empty id is made from the path. opts.StopTokens and opts.Banned are set from the tokenizer.
func (c *Catalog) Load(ctx context.Context, path, id string, opts Options) (*Served, error) {
	if id == "" {
		if id = modelID(path); path == "" {
			id = embedded.Name
		}
	}
	if err := c.reserve(id); err != nil {
		return nil, err
	}
	report := opts.Progress
	opts.Progress = func(done, total int64) {
		c.mu.Lock()
		c.loading[id] = Progress{id, done, total}
		c.mu.Unlock()
		if report != nil {
			report(done, total)
		}
	}
	served, err := open(ctx, path, id, opts)
	debug.FreeOSMemory() // what reading the vocabulary left behind is as large as what stays of it
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.loading, id)
	if err != nil {
		c.failed = err
		return nil, fmt.Errorf("engine: model %q: %w", id, err)
	}
	served.ID = id
	c.served[id] = served
	c.order = append(c.order, id)
	return served, nil
}

// reserve claims an id.
func (c *Catalog) reserve(id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, loading := c.loading[id]
	if _, served := c.served[id]; served || loading {
		return fmt.Errorf("engine: two models are named %q; give one of them another name", id)
	}
	c.loading[id] = Progress{ID: id}
	return nil
}

// open does the work of Load that needs no lock. The vocabulary is read while the device packs the weights.
func open(ctx context.Context, path, id string, opts Options) (*Served, error) {
	src, err := OpenSource(path)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	drafts, err := OpenDraft(&opts)
	if err != nil {
		return nil, err
	}
	if drafts != nil {
		defer drafts.Close()
	}
	m, err := LoadModel(src, &opts)
	if err != nil {
		return nil, err
	}
	if err := opts.checkDraft(m); err != nil { // before the vocabularies are compared, which would say the same once more
		return nil, err
	}
	created, digest, err := identify(path, src)
	if err != nil {
		return nil, err
	}
	opts.setDefaults()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	read := make(chan vocabulary, 1)
	go func() {
		v := openVocabulary(src, m.Config.VocabSize)
		if v.err == nil && drafts != nil {
			v.checkDraft(drafts)
		}
		if v.err != nil {
			cancel() // there is no use in packing
		}
		read <- v
	}()
	eng, err := load(ctx, m, opts)
	v := <-read // in any case: it reads from the source
	if v.err != nil {
		if err == nil {
			err = eng.abandon()
		} else if errors.Is(err, context.Canceled) {
			err = nil // a consequence
		}
		return nil, errors.Join(v.err, err)
	}
	if err != nil {
		return nil, err
	}
	if err := eng.setTokens(stopTokens(v.tokenizer), v.tokenizer.EOG(), bannedTokens(v.tokenizer, m.Config.VocabSize)); err != nil {
		return nil, errors.Join(err, eng.abandon())
	}
	if v.template.IsFallback() {
		opts.Logger.Warn("model has no chat template: the contents of system and user messages are the prompt", "model", id)
	}
	for _, warning := range v.tokenizer.Warnings() {
		opts.Logger.Warn("model file lacks something of its tokenizer", "model", id, "warning", warning)
	}
	eng.start()
	parameters, bytes, format := summarize(src)
	return &Served{
		Path: path, Created: created, Architecture: m.Config.Architecture, Name: m.Config.Name, Parameters: parameters,
		Quantization: format, WeightBytes: bytes, Digest: digest, TrainedLength: m.Config.ContextLength,
		Engine: eng, Tokenizer: v.tokenizer, Template: v.template,
	}, nil
}

// vocabulary is what turns text into tokens, or why there is none.
type vocabulary struct {
	tokenizer *tokenizer.Tokenizer
	template  *chat.Template
	err       error
}

// openVocabulary reads the tokenizer and the chat template of a model whose embedding has so many rows.
func openVocabulary(src weights.Source, rows int) (v vocabulary) {
	if v.tokenizer, v.err = OpenTokenizer(src); v.err != nil {
		return v
	}
	if n := v.tokenizer.VocabSize(); n > rows {
		v.err = fmt.Errorf("%w: the tokenizer has %d tokens, the model %d rows", weights.ErrCorrupt, n, rows)
		return v
	}
	v.template, v.err = OpenTemplate(src, v.tokenizer)
	return v
}

// checkDraft compares a vocabulary with that of a draft model.
func (v *vocabulary) checkDraft(src weights.Source) {
	tok, err := OpenTokenizer(src)
	if err != nil {
		v.err = fmt.Errorf("engine: draft model: %w", err)
		return
	}
	v.err = sameVocabulary(v.tokenizer, tok)
}

// Get returns a served model.
func (c *Catalog) Get(id string) (*Served, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.served[id]; ok {
		return s, nil
	}
	if _, ok := c.loading[id]; ok {
		return nil, fmt.Errorf("%w: %q", ErrLoading, id)
	}
	return nil, fmt.Errorf("%w: %q", ErrUnknownModel, id)
}

// List returns the served models in the order they were loaded.
func (c *Catalog) List() []*Served {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]*Served, len(c.order))
	for i, id := range c.order {
		list[i] = c.served[id]
	}
	return list
}

// Loading returns the progress of the models being loaded, and the error of the last one that failed.
func (c *Catalog) Loading() ([]Progress, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []Progress
	for _, p := range c.loading {
		list = append(list, p)
	}
	return list, c.failed
}

// Close closes all engines and waits for them.
func (c *Catalog) Close() error {
	var errs []error
	for _, s := range c.List() {
		errs = append(errs, s.Engine.Close())
	}
	return errors.Join(errs...)
}

// identify returns when the model was made, as far as its file tells, and a digest of its metadata and of the names, shapes
// and some bytes of all tensors. Reading all weights would take minutes for large models.
func identify(path string, src weights.Source) (time.Time, string, error) {
	created := time.Unix(0, 0)
	if path != "" && path != embedded.Name {
		info, err := os.Stat(path)
		if err != nil {
			return created, "", err
		}
		created = info.ModTime()
	}
	sum := sha256.New()
	h := bufio.NewWriterSize(sum, 1<<16)
	md := src.Metadata()
	for _, key := range md.Keys() {
		value, _ := md.Get(key)
		h.WriteString(key)
		h.WriteByte('=')
		writeValue(h, value)
		h.WriteByte('\n')
	}
	for _, name := range src.Names() {
		t, err := src.Tensor(name)
		if err != nil {
			return created, "", err
		}
		fmt.Fprintf(h, "%s %d %v %d\n", name, t.Type, t.Shape, t.Size())
		for _, sample := range samples(t.Parts()) {
			h.Write(sample)
		}
	}
	if err := h.Flush(); err != nil {
		return created, "", err
	}
	return created, hex.EncodeToString(sum.Sum(nil)), nil
}

// A tensor is told from others by its bytes in so many places.
const (
	samplesOfTensor = 8
	sampleBytes     = 64
)

// samples returns bytes from evenly spread places of a tensor, its beginning and its end among them.
func samples(parts [][]byte) [][]byte {
	all := make([][]byte, 0, samplesOfTensor)
	for i := range samplesOfTensor {
		part := parts[i*len(parts)/samplesOfTensor]
		if i == samplesOfTensor-1 {
			part = parts[len(parts)-1]
		}
		n := min(len(part), sampleBytes)
		at := (len(part) - n) / (samplesOfTensor - 1) * i
		if i == samplesOfTensor-1 {
			at = len(part) - n
		}
		all = append(all, part[at:at+n])
	}
	return all
}

// writeValue writes a value of the metadata as the verb %v prints it. A vocabulary is long, and reflection slow.
func writeValue(w *bufio.Writer, value any) {
	switch v := value.(type) {
	case []string:
		w.WriteByte('[')
		for i, s := range v {
			if i > 0 {
				w.WriteByte(' ')
			}
			w.WriteString(s)
		}
		w.WriteByte(']')
	case []int32:
		w.WriteByte('[')
		var number []byte
		for i, n := range v {
			if i > 0 {
				w.WriteByte(' ')
			}
			number = strconv.AppendInt(number[:0], int64(n), 10)
			w.Write(number)
		}
		w.WriteByte(']')
	default:
		fmt.Fprint(w, v)
	}
}

// summarize counts parameters and bytes, and finds the format that holds most of the parameters.
func summarize(src weights.Source) (parameters, bytes int64, format string) {
	perType := map[uint32]int64{}
	for _, name := range src.Names() {
		t, err := src.Describe(name)
		if err != nil {
			continue // model.Load has read every tensor that matters
		}
		parameters += t.Elements()
		bytes += t.Size()
		perType[t.Type] += t.Elements()
	}
	best := int64(-1)
	for id, n := range perType {
		if n > best {
			best, format = n, quant.TypeName(id)
		}
	}
	return parameters, bytes, format
}
