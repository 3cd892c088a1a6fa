package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"hearth/engine"
	"hearth/engine/model"
	"hearth/engine/weights"
)

func newInspectCommand() *cobra.Command {
	var asJSON, check, tensors bool
	command := &cobra.Command{
		Use:   "inspect [MODEL]",
		Short: "Show what is in a model file, and check it",
		Long: `Shows a model's metadata, formats, sizes, hyperparameters and the memory that it needs: what its cache takes for each
token and each sequence, and how a server on this machine would divide its memory. With --tensors it shows each tensor
too. MODEL is a GGUF or safetensors file, the index of a sharded model, a config.json, or a folder with one of these; without it the embedded
model is shown.

With --check the whole model is verified: its hyperparameters, that every tensor of its architecture is there with the
right shape, its tokenizer and chat template, and that every weight is finite. The exit status is 1 when something is
wrong.`,
		Example: "  hearth inspect model.gguf\n  hearth inspect --check model.gguf\n  hearth inspect --json model.gguf | jq .memory",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := ""
			if len(args) > 0 {
				path = args[0]
			}
			src, err := engine.OpenSource(path)
			if err != nil {
				return err
			}
			defer src.Close()
			r := newReport(src)
			var failed error
			if check {
				var note string
				note, failed = checkModel(cmd.Context(), src)
				r.setCheck(note, failed)
			}
			out := cmd.OutOrStdout()
			if asJSON {
				encoder := json.NewEncoder(out)
				encoder.SetIndent("", "  ")
				err = encoder.Encode(r)
			} else {
				err = r.print(out, tensors)
			}
			return errors.Join(err, failed)
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	command.Flags().BoolVar(&tensors, "tensors", false, "list every tensor (JSON always does)")
	command.Flags().BoolVar(&check, "check", false, "verify the whole model")
	return command
}

// report is what inspect shows; its JSON is an interface that scripts rely on.
type report struct {
	Path            string           `json:"path"`
	Format          string           `json:"format"` // "GGUF" or "safetensors"
	Architecture    string           `json:"architecture"`
	Supported       bool             `json:"supported"` // there is an implementation of the architecture
	Name            string           `json:"name"`
	Parameters      int64            `json:"parameters"`
	Quantization    string           `json:"quantization"` // format of most parameters
	Hyperparameters *hyperparameters `json:"hyperparameters"`
	Memory          memoryReport     `json:"memory"`
	Types           []typeReport     `json:"types"`
	Metadata        []keyReport      `json:"metadata"`
	Tensors         []tensorReport   `json:"tensors"`
	Problem         string           `json:"problem,omitempty"` // why hyperparameters or memory are missing
	Check           *checkReport     `json:"check,omitempty"`
}

// hyperparameters are absent when they cannot be read.
type hyperparameters struct {
	VocabSize        int     `json:"vocab_size"`
	ContextLength    int     `json:"context_length"`
	HiddenSize       int     `json:"hidden_size"`
	NumLayers        int     `json:"num_layers"`
	NumHeads         int     `json:"num_heads"`
	NumKVHeads       int     `json:"num_kv_heads"`
	HeadDim          int     `json:"head_dim"`
	FFNSize          int     `json:"ffn_size"`
	NumExperts       int     `json:"num_experts"`
	NumExpertsPerTok int     `json:"num_experts_per_tok"`
	ExpertFFNSize    int     `json:"expert_ffn_size"`
	RMSNormEps       float32 `json:"rms_norm_eps"`
	RopeTheta        float64 `json:"rope_theta"`
	RopeScaling      string  `json:"rope_scaling"`
}

type typeReport struct {
	Type       string `json:"type"`
	Tensors    int    `json:"tensors"`
	Parameters int64  `json:"parameters"`
	Bytes      int64  `json:"bytes"`
}

type keyReport struct {
	Key    string `json:"key"`
	Type   string `json:"type"`             // as in GGUF; of an array that of its elements, followed by []
	Length *int   `json:"length,omitempty"` // of an array
	Value  any    `json:"value"`            // of an array the first elements; numbers that are not finite are strings
}

type tensorReport struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Shape []int  `json:"shape"` // row-major
	Bytes int64  `json:"bytes"`
}

type checkReport struct {
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
	Note  string `json:"note,omitempty"` // what there was not to check
}

// shownElements is how many elements of an array a report shows.
const shownElements = 8

// newReport describes a model without reading its weights.
func newReport(src weights.Source) *report {
	md := src.Metadata()
	r := &report{
		Path: src.Path(), Format: src.Origin().String(),
		Types: []typeReport{}, Metadata: []keyReport{}, Tensors: []tensorReport{},
		Memory: memoryReport{KVBytesPerToken: map[string]int64{}, KVBytesOfContext: map[string]int64{}, KVError: map[string]float64{}, Contexts: []contextReport{}, Layers: []layerReport{}},
	}
	r.Architecture, _ = md.String("general.architecture")
	r.Name, _ = md.String("general.name")
	r.Supported = slices.Contains(model.Names(), r.Architecture)
	for _, key := range md.Keys() {
		value, _ := md.Get(key)
		r.Metadata = append(r.Metadata, newKeyReport(key, value))
	}
	for _, name := range src.Names() {
		if t, err := src.Describe(name); err == nil {
			r.addTensor(t)
		}
	}
	slices.SortFunc(r.Types, func(a, b typeReport) int {
		if a.Parameters != b.Parameters {
			return int(min(max(b.Parameters-a.Parameters, -1), 1))
		}
		return b.Tensors - a.Tensors
	})
	if len(r.Types) > 0 {
		r.Quantization = r.Types[0].Type
	}
	r.configure(src)
	return r
}

func (r *report) addTensor(t weights.Tensor) {
	r.Tensors = append(r.Tensors, tensorReport{t.Name, t.TypeName(), append([]int{}, t.Shape...), t.Size()})
	r.Parameters += t.Elements()
	r.Memory.WeightBytes += t.Size()
	i := slices.IndexFunc(r.Types, func(k typeReport) bool { return k.Type == t.TypeName() })
	if i < 0 {
		i = len(r.Types)
		r.Types = append(r.Types, typeReport{Type: t.TypeName()})
	}
	r.Types[i].Tensors++
	r.Types[i].Parameters += t.Elements()
	r.Types[i].Bytes += t.Size()
}

// configure reads the hyperparameters and computes what depends on them.
func (r *report) configure(src weights.Source) {
	if !r.Supported && r.Architecture != "" {
		r.Problem = fmt.Sprintf("architecture %q is not supported; known are %s", r.Architecture, strings.Join(model.Names(), ", "))
		return
	}
	c, err := model.ReadConfig(src)
	if err != nil {
		r.Problem = err.Error()
		return
	}
	r.Hyperparameters = &hyperparameters{
		VocabSize: c.VocabSize, ContextLength: c.ContextLength, HiddenSize: c.HiddenSize, NumLayers: c.NumLayers,
		NumHeads: c.NumHeads, NumKVHeads: c.NumKVHeads, HeadDim: c.HeadDim, FFNSize: c.FFNSize, NumExperts: c.NumExperts,
		NumExpertsPerTok: c.NumExpertsPerTok, ExpertFFNSize: c.ExpertFFNSize, RMSNormEps: c.RMSNormEps,
		RopeTheta: c.Rope.Theta, RopeScaling: c.Rope.Scaling.Type,
	}
	m, err := model.Load(src)
	if err != nil {
		r.Problem = err.Error()
		return
	}
	if err := r.Memory.measure(m); err != nil {
		r.Problem = err.Error()
	}
}

func (r *report) setCheck(note string, err error) {
	r.Check = &checkReport{OK: err == nil, Note: note}
	if err != nil {
		r.Check.Error = err.Error()
	}
}

// newKeyReport describes a value, an array by its first elements.
func newKeyReport(key string, value any) keyReport {
	v := reflect.ValueOf(value)
	if v.Kind() != reflect.Slice {
		return keyReport{Key: key, Type: v.Type().String(), Value: plain(value)}
	}
	n := v.Len()
	first := make([]any, min(n, shownElements))
	for i := range first {
		first[i] = plain(v.Index(i).Interface())
	}
	return keyReport{Key: key, Type: v.Type().Elem().String() + "[]", Length: &n, Value: first}
}

// plain makes a value one that JSON has: numbers that are not finite become strings.
func plain(value any) any {
	switch v := value.(type) {
	case float32:
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			return strconv.FormatFloat(f, 'g', -1, 32)
		}
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return strconv.FormatFloat(v, 'g', -1, 64)
		}
	}
	return value
}
