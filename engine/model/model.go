package model

import (
	"errors"
	"fmt"
	"slices"
	"sort"

	"hearth/engine/weights"
	"hearth/hardware"
)

// ErrUnsupported says that no architecture here runs the file.
var ErrUnsupported = errors.New("unsupported model")

// Arch is one architecture.
type Arch struct {
	Names []string // general.architecture of GGUF files
	// Load reads the configuration and declares the weights; mistakes stick in the loader.
	Load func(l *Loader) Forwarder
}

// Forwarder records the forward pass of a loaded architecture.
type Forwarder interface {
	// Forward records one section and returns the logits, [outputs, VocabSize].
	Forward(p *hardware.Program) hardware.Tensor
}

// Model is a loaded architecture: its configuration and its recorded program. It is read-only.
type Model struct {
	Config  Config
	Program *hardware.Program
	Trunk   hardware.Section // the forward pass
	Logits  hardware.Output  // of Trunk, [outputs, VocabSize]
	Parts   hardware.Output  // of Trunk, [outputs, parts, 2]: SoftmaxParts of Logits
}

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
	return nil, fmt.Errorf("%w: architecture %q; supported are %v", ErrUnsupported, name, Names())
}

// Load reads a model: configuration, weights and forward pass. Nothing is copied: the program's weights are the
// source's mapped bytes, and the source must stay open until a device has packed them. Errors name the key or the
// tensor.
func Load(src weights.Source) (*Model, error) {
	name, err := architecture(src.Metadata())
	if err != nil {
		return nil, fmt.Errorf("model: %s: %w", src.Path(), err)
	}
	arch, err := lookup(name) // before the keys: those of unknown architectures mean other things
	if err != nil {
		return nil, fmt.Errorf("model: %s: %w", src.Path(), err)
	}
	config, err := ReadConfig(src.Metadata())
	if err != nil {
		return nil, fmt.Errorf("model: %s: %w", src.Path(), err)
	}
	m := &Model{Config: *config, Program: hardware.NewProgram(config.Architecture)}
	l := &Loader{Config: &m.Config, src: src, program: m.Program}
	forwarder := arch.Load(l)
	if l.err != nil {
		return nil, fmt.Errorf("model: %s: %w", src.Path(), l.err)
	}
	m.Trunk = m.Program.Section("trunk")
	logits := forwarder.Forward(m.Program)
	m.Logits = m.Program.Output("logits", logits)
	parts := m.Program.SoftmaxParts(logits)
	m.Parts = m.Program.Output("parts", parts.Cols(0, parts.Size()))
	if err := m.Program.Err(); err != nil {
		return nil, fmt.Errorf("model: %s: %w", src.Path(), err)
	}
	return m, nil
}
