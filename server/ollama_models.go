package server

import (
	"math"
	"strconv"
	"strings"
	"time"

	ollama "github.com/ollama/ollama/api"
	ollamamodel "github.com/ollama/ollama/types/model"

	"hearth/sessions"
)

// ollamaName is an id as Ollama writes it, with a tag.
func ollamaName(id string) string {
	if strings.Contains(id, ":") {
		return id
	}
	return id + ":latest"
}

// ollamaModel finds a model by its id, with or without the tag that Ollama's clients add.
func (s *Server) ollamaModel(name string) (sessions.Model, error) {
	if short, ok := strings.CutSuffix(name, ":latest"); ok {
		if _, err := s.store.Model(name); err != nil {
			return s.model(short)
		}
	}
	return s.model(name)
}

func ollamaDetails(m *sessions.Model) ollama.ModelDetails {
	return ollama.ModelDetails{
		Format: "gguf", Family: m.Architecture, Families: []string{m.Architecture},
		ParameterSize: parameterSize(m.Parameters), QuantizationLevel: m.Quantization,
	}
}

// parameterSize writes a count as model names do: "260K", "4.0B".
func parameterSize(n int64) string {
	switch {
	case n >= 1e9:
		return strconv.FormatFloat(float64(n)/1e9, 'f', 1, 64) + "B"
	case n >= 1e6:
		return strconv.FormatFloat(float64(n)/1e6, 'f', 2, 64) + "M"
	case n >= 1e3:
		return strconv.FormatFloat(float64(n)/1e3, 'f', 0, 64) + "K"
	}
	return strconv.FormatInt(n, 10)
}

// ollamaTags answers GET /api/tags.
func (s *Server) ollamaTags(x *exchange) error {
	list := ollama.ListResponse{Models: []ollama.ListModelResponse{}}
	for _, m := range s.store.Models() {
		list.Models = append(list.Models, ollama.ListModelResponse{
			Name: ollamaName(m.ID), Model: ollamaName(m.ID), ModifiedAt: m.Created.UTC(), Size: m.Bytes, Digest: m.Digest,
			Details: ollamaDetails(&m),
		})
	}
	return x.answer(list)
}

// forever is how long models stay loaded, in the words of Ollama's API: what it answers after a negative keep_alive.
const forever = time.Duration(math.MaxInt64)

// ollamaProcesses answers GET /api/ps. Every served model is loaded; the size is that of its weights.
func (s *Server) ollamaProcesses(x *exchange) error {
	list := ollama.ProcessResponse{Models: []ollama.ProcessModelResponse{}}
	for _, m := range s.store.Models() {
		list.Models = append(list.Models, ollama.ProcessModelResponse{
			Name: ollamaName(m.ID), Model: ollamaName(m.ID), Size: m.Bytes, Digest: m.Digest, Details: ollamaDetails(&m),
			ExpiresAt: s.opts.Now().UTC().Add(forever), ContextLength: m.ContextLength,
		})
	}
	return x.answer(list)
}

// ollamaShowRequest is the body of POST /api/show.
type ollamaShowRequest struct{ model, name, system string }

var ollamaShowFields = []field[ollamaShowRequest]{
	{name: "model", use: honoured, read: text(func(r *ollamaShowRequest, s string) { r.model = s })},
	{name: "name", use: honoured, read: text(func(r *ollamaShowRequest, s string) { r.name = s })}, // older clients' model
	{name: "system", use: echoed, read: text(func(r *ollamaShowRequest, s string) { r.system = s })},
	{name: "options", use: ignored, read: func(_ *ollamaShowRequest, v value) error { // what a client will send with its requests
		_, err := v.members()
		return err
	}},
	refuse[ollamaShowRequest]("template", "the model's own is used", `""`),
	refuse[ollamaShowRequest]("verbose", "vocabularies and tensors are not listed", "false"),
}

// ollamaShow answers POST /api/show. The template is the model's own, in Jinja.
func (s *Server) ollamaShow(x *exchange) error {
	r := &ollamaShowRequest{}
	if err := readTable(x, ollamaShowFields, r); err != nil {
		return err
	}
	switch {
	case r.model == "" && r.name == "":
		return missing("model")
	case r.model == "":
		r.model = r.name
	}
	m, err := s.ollamaModel(r.model)
	if err != nil {
		return err
	}
	x.model = m.ID
	info := map[string]any{
		"general.architecture":             m.Architecture,
		"general.parameter_count":          m.Parameters,
		m.Architecture + ".context_length": m.TrainedLength,
	}
	if m.Name != "" {
		info["general.name"] = m.Name
	}
	return x.answer(ollama.ShowResponse{
		Template: m.Template, System: r.system, Details: ollamaDetails(&m), ModelInfo: info,
		Capabilities: ollamaCapabilities(&m), ModifiedAt: m.Created.UTC(),
	})
}

func ollamaCapabilities(m *sessions.Model) []ollamamodel.Capability {
	list := []ollamamodel.Capability{ollamamodel.CapabilityCompletion}
	if m.CallsTools {
		list = append(list, ollamamodel.CapabilityTools)
	}
	if m.Reasons {
		list = append(list, ollamamodel.CapabilityThinking)
	}
	return list
}
