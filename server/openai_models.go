package server

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"hearth/sessions"
)

// modelObject describes a model in OpenAI's shape; Meta is an extension.
type modelObject struct {
	ID      string    `json:"id"`
	Object  string    `json:"object"`
	Created int64     `json:"created"`
	OwnedBy string    `json:"owned_by"`
	Meta    modelMeta `json:"meta"`
}

type modelMeta struct {
	Architecture  string `json:"architecture"`
	Name          string `json:"name,omitempty"`
	Parameters    int64  `json:"parameters"`
	Quantization  string `json:"quantization"`
	SizeBytes     int64  `json:"size_bytes"`
	ContextLength int    `json:"context_length"`
	TrainedLength int    `json:"trained_context_length"`
}

type modelList struct {
	Object string        `json:"object"`
	Data   []modelObject `json:"data"`
}

func newModelObject(m *sessions.Model) modelObject {
	return modelObject{
		ID: m.ID, Object: "model", Created: m.Created.Unix(), OwnedBy: "hearth",
		Meta: modelMeta{
			Architecture: m.Architecture, Name: m.Name, Parameters: m.Parameters, Quantization: m.Quantization,
			SizeBytes: m.Bytes, ContextLength: m.ContextLength, TrainedLength: m.TrainedLength,
		},
	}
}

// listModels answers GET /v1/models.
func (s *Server) listModels(x *exchange) error {
	list := modelList{Object: "list", Data: []modelObject{}}
	for _, m := range s.store.Models() {
		list.Data = append(list.Data, newModelObject(&m))
	}
	return x.answer(list)
}

// getModel answers GET /v1/models/{id}; the path has been decoded, so that a slash in an id may be either form.
func (s *Server) getModel(x *exchange) error {
	m, err := s.model(strings.TrimPrefix(x.c.Param("id"), "/"))
	if err != nil {
		return err
	}
	x.model = m.ID
	return x.answer(newModelObject(&m))
}

// model returns a served model; when it is still loading the error says how far it is, and when there is none of that
// name which ones there are.
func (s *Server) model(id string) (sessions.Model, error) {
	m, err := s.store.Model(id)
	switch {
	case errors.Is(err, sessions.ErrLoading):
		loading, _ := s.store.Loading()
		for _, p := range loading {
			if p.ID == id && p.TotalBytes > 0 {
				return m, fmt.Errorf("%w, %d%% done", err, 100*p.DoneBytes/p.TotalBytes)
			}
		}
	case errors.Is(err, sessions.ErrUnknownModel):
		return m, s.unknownModel(id)
	}
	return m, err
}

// maxNamesTold bounds the list of models in an error.
const maxNamesTold = 10

// unknownModel says which names there are: whoever may ask for a model may also list them.
func (s *Server) unknownModel(id string) error {
	models := s.store.Models()
	names := make([]string, min(len(models), maxNamesTold))
	for i := range names {
		names[i] = models[i].ID
	}
	served := "no model is"
	switch more := len(models) - len(names); {
	case more > 0:
		served = fmt.Sprintf("served are %s and %d more", strings.Join(names, ", "), more)
	case len(names) > 0:
		served = "served are " + strings.Join(names, ", ")
	}
	return &wireError{
		Status: http.StatusNotFound, Type: typeInvalidRequest, Code: "model_not_found", Param: "model",
		Message: fmt.Sprintf("the model %q is not served here; %s", shorten(id), served),
	}
}
