package model

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"hearth/engine/weights"
	"hearth/hardware"
	"hearth/hardware/quant"
)

// ErrUnsupported says that no architecture here runs the file.
var ErrUnsupported = errors.New("unsupported model")

// Arch is one architecture.
type Arch struct {
	Names    []string // general.architecture of GGUF files
	Defaults Defaults
	// Load reads the configuration and declares the weights; mistakes stick in the loader.
	Load func(l *Loader) Forwarder
}

// Forwarder records the forward pass of a loaded architecture.
type Forwarder interface {
	// Forward records the operations of the section "trunk", from the tokens to what is read of them.
	Forward(p *hardware.Program) Trunk
}

// Trunk is what a forward pass gives for the rows whose outputs are asked for.
type Trunk struct {
	Hidden hardware.Tensor // [outputs, HiddenSize], after the final norm
	Logits hardware.Tensor // [outputs, VocabSize]
	// Draft records the section that guesses further tokens by the rows that the trunk carries, and returns its logits,
	// [outputs, VocabSize]. It is nil where there are no weights for it.
	Draft func(p *hardware.Program) hardware.Tensor
}

// Model is a loaded architecture: its configuration and its recorded program. It is read-only.
type Model struct {
	Config  Config
	Program *hardware.Program
	Trunk   hardware.Section // the forward pass
	Logits  hardware.Output  // of Trunk, [outputs, VocabSize]
	Parts   hardware.Output  // of Trunk, [outputs, parts, 2]: SoftmaxParts of Logits
	Drafts  bool             // whether there is a section that guesses further tokens, by the carried rows of the one before
	Draft   hardware.Section
	Guess   Guess           // of Draft
	Pools   bool            // whether there is Pooled
	Pooled  hardware.Output // of Trunk, what Config.Pooling gives: [outputs, HiddenSize], or [outputs, NumClasses] for PoolRank
}

// Guess is what the section Draft gives, as Logits and Parts of the trunk.
type Guess struct{ Logits, Parts hardware.Output }

var registry []*Arch

func register(a Arch) *Arch {
	registry = append(registry, &a)
	return &a
}

// Names lists the architectures that run, sorted.
func Names() []string {
	var names []string
	for _, a := range registry {
		names = append(names, a.Names...)
	}
	sort.Strings(names)
	return names
}

// lookup finds an architecture by its GGUF name.
func lookup(name string) (*Arch, error) {
	for _, a := range registry {
		if slices.Contains(a.Names, name) {
			return a, nil
		}
	}
	return nil, fmt.Errorf("%w: architecture %q; supported are %s", ErrUnsupported, name, strings.Join(Names(), ", "))
}

// Load reads a model: configuration, weights and forward pass. Weights are not copied: the program's are the source's
// mapped bytes, and the source must stay open until a device has packed them. Errors name the key or the tensor.
func Load(src weights.Source) (*Model, error) { return loadNamed(src, false) }

// LoadDrafting is Load with the weights that guess further tokens, where the file has them.
func LoadDrafting(src weights.Source) (*Model, error) { return loadNamed(src, true) }

func loadNamed(src weights.Source, predicts bool) (*Model, error) {
	m, err := load(src, predicts)
	if err != nil {
		return nil, fmt.Errorf("model: %s: %w", src.Path(), err)
	}
	return m, nil
}

func load(src weights.Source, predicts bool) (*Model, error) {
	config, err := ReadConfig(src)
	if err != nil {
		return nil, err
	}
	arch, k, err := openKeys(src)
	if err != nil {
		return nil, err
	}
	m := &Model{Config: *config, Program: hardware.NewProgram(k.arch)}
	l := &Loader{mistake: k.mistake, Config: &m.Config, keys: k, src: src, program: m.Program, predicts: predicts}
	forwarder := arch.Load(l)
	if l.err != nil {
		return nil, l.err
	}
	m.Trunk = m.Program.Section("trunk")
	trunk := forwarder.Forward(m.Program)
	m.Logits = m.Program.Output("logits", trunk.Logits)
	parts := m.Program.SoftmaxParts(trunk.Logits)
	m.Parts = m.Program.Output("parts", parts.Cols(0, parts.Size()))
	if pooled, ok := l.pool(trunk.Hidden); ok {
		m.Pools, m.Pooled = true, m.Program.Output("pooled", pooled)
	}
	if trunk.Draft != nil {
		m.recordDraft(trunk.Draft)
	}
	if l.err != nil {
		return nil, l.err
	}
	return m, m.Program.Err()
}

// recordDraft records the section that guesses further tokens.
func (m *Model) recordDraft(record func(p *hardware.Program) hardware.Tensor) {
	m.Drafts, m.Draft = true, m.Program.Section("draft")
	logits := record(m.Program)
	m.Guess.Logits = m.Program.Output("draft logits", logits)
	parts := m.Program.SoftmaxParts(logits)
	m.Guess.Parts = m.Program.Output("draft parts", parts.Cols(0, parts.Size()))
}

// KVBytesPerBlock returns the bytes of one cache block, hardware.BlockLen positions of one sequence, with rows of a format:
// what the streams of the program add up to.
func (m *Model) KVBytesPerBlock(f *quant.Format) int64 {
	total := int64(0)
	for _, s := range m.Program.Streams() {
		blocks := (s.Dim + f.BlockLen - 1) / f.BlockLen
		total += int64(s.Entries()) * int64(s.Heads) * int64(blocks) * int64(f.BlockBytes)
	}
	return total
}

// StateBytes returns the bytes that a sequence takes beside its cache blocks: the rings and states of the program, for
// going on from a multiple of the block length. A device adds the rows since then.
func (m *Model) StateBytes() int64 {
	elements := int64(0)
	for _, r := range m.Program.Rings() {
		elements += int64(r.Keep) * int64(r.Dim)
	}
	for _, d := range m.Program.Deltas() {
		elements += int64(d.ValueHeads) * int64(d.KeyDim) * int64(d.ValueDim)
	}
	return 4 * elements
}
