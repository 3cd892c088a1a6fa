package server

import (
	"net/http"
	"runtime"
	"slices"
	"strings"

	"hearth/engine"
)

// healthStatus is the answer of GET /health.
type healthStatus struct {
	Status string        `json:"status"` // ok, loading, failed, draining
	Models []loadedModel `json:"models,omitempty"`
}

type loadedModel struct {
	ID         string  `json:"id"`
	Progress   float64 `json:"progress"` // 0 to 1
	DoneBytes  int64   `json:"done_bytes"`
	TotalBytes int64   `json:"total_bytes"`
}

// health answers 200 when every model is loaded, and 503 before, with how far they are, and while the server stops.
func (s *Server) health(x *exchange) error {
	loading, failed := s.store.Loading()
	status := healthStatus{Status: "ok"}
	switch {
	case s.draining.Load():
		status.Status = "draining"
	case s.ready.Load():
	case failed != nil:
		status.Status = "failed"
	default:
		status.Status = "loading"
	}
	slices.SortFunc(loading, func(a, b engine.Progress) int { return strings.Compare(a.ID, b.ID) })
	for _, p := range loading {
		m := loadedModel{ID: p.ID, DoneBytes: p.DoneBytes, TotalBytes: p.TotalBytes}
		if p.TotalBytes > 0 {
			m.Progress = float64(p.DoneBytes) / float64(p.TotalBytes)
		}
		status.Models = append(status.Models, m)
	}
	if status.Status == "ok" {
		return x.answer(status)
	}
	x.header().Set("Retry-After", "1")
	return x.write(http.StatusServiceUnavailable, status)
}

// version answers GET /version.
func (s *Server) version(x *exchange) error {
	return x.answer(struct {
		Version  string `json:"version"`
		Go       string `json:"go"`
		Platform string `json:"platform"`
	}{s.opts.Version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH})
}
