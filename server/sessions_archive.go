package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"hearth/sessions"
	"hearth/sessions/database"
)

// archiveType is the media type of an archive: a tar file, compressed.
const archiveType = "application/zstd"

// archiveQuery are the parameters of an export and of an import.
type archiveQuery struct {
	computed, keepID bool
	model            string
}

var computedParameter = parameter[archiveQuery]{"computed", once, switchParameter(func(q *archiveQuery, b bool) { q.computed = b })}

var exportParameters = []parameter[archiveQuery]{computedParameter}

var importParameters = []parameter[archiveQuery]{
	computedParameter,
	{"keep_id", once, switchParameter(func(q *archiveQuery, b bool) { q.keepID = b })},
	{"model", once, func(q *archiveQuery, a argument) error {
		q.model = a.text
		return nil
	}},
}

// exportSession answers GET /v1/sessions/{id}/export with an archive: the items, the exact tokens of the last turn and,
// unless computed is false, what the model computed of them.
func (s *Server) exportSession(x *exchange) error {
	q := archiveQuery{computed: true}
	if err := decodeQuery(x, exportParameters, &q); err != nil {
		return err
	}
	id := x.c.Param("id")
	export, err := s.store.Export(x.ctx, x.tenant, id, sessions.ExportOptions{Computed: q.computed, Now: s.opts.Now(), By: "hearth " + s.opts.Version})
	if err != nil {
		return x.aboutSession(err)
	}
	x.header().Set("Content-Type", archiveType)
	x.header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": id + ".tar.zst"}))
	x.stamp()
	x.c.Writer.WriteHeader(http.StatusOK)
	out := &patientWriter{w: x.c.Writer, control: http.NewResponseController(x.c.Writer), timeout: s.opts.WriteTimeout}
	if err := export.Write(x.ctx, out); err != nil {
		// The status is sent. A connection that breaks says that the file is not whole, and so does the file.
		_ = out.control.SetWriteDeadline(time.Unix(1, 0))
		if out.failed {
			return fmt.Errorf("server: write to the client: %w: %w", context.Canceled, err)
		}
		return err
	}
	return nil
}

// importAnswer says what was taken of an archive.
type importAnswer struct {
	Object         string   `json:"object"`
	ID             string   `json:"id"`
	Items          int      `json:"items"`
	Tokens         int      `json:"tokens"`
	ComputedTokens int      `json:"computed_tokens"`
	LeftOut        []string `json:"left_out"`
}

// importSession answers POST /v1/sessions/import, whose body is an archive. The new conversation has an id of its own, unless
// keep_id is true, and belongs to the model that it had, unless one is named. What a model computed is believed, because
// nobody can tell it from what another input made of it: computed=false leaves it out, for archives from strangers.
func (s *Server) importSession(x *exchange) error {
	q := archiveQuery{computed: true}
	if err := decodeQuery(x, importParameters, &q); err != nil {
		return err
	}
	db, err := s.database()
	if err != nil {
		return err
	}
	if err := db.Admit(x.ctx, x.tenant); err != nil {
		return err
	}
	folder := "" // the system's, where nothing outlives the process
	if db.Path() != database.Memory {
		folder = filepath.Dir(db.Path())
	}
	file, err := spool(x, folder)
	if err != nil {
		return err
	}
	defer file.discard()
	opts := &sessions.ImportOptions{Tenant: x.tenant, Model: q.model, Computed: q.computed, TTL: s.store.SessionTTL(), NewID: s.opts.NewID, Now: s.opts.Now}
	if !q.keepID {
		opts.ID = s.opts.NewID("conv_")
	}
	in, err := s.store.Import(x.ctx, file, opts)
	if err != nil {
		return err
	}
	answer := importAnswer{Object: "session.import", ID: in.Session.ID, Items: in.Items, Tokens: in.Tokens, ComputedTokens: in.Computed, LeftOut: in.LeftOut}
	if answer.LeftOut == nil {
		answer.LeftOut = []string{}
	}
	return x.answer(answer)
}

// patientWriter gives a client its time for each write, however long all of them take.
type patientWriter struct {
	w       io.Writer
	control *http.ResponseController
	timeout time.Duration
	failed  bool
}

// Write writes to the client.
func (p *patientWriter) Write(data []byte) (int, error) {
	_ = p.control.SetWriteDeadline(time.Now().Add(p.timeout)) // recorders have none
	n, err := p.w.Write(data)
	p.failed = p.failed || err != nil
	return n, err
}

// spooled is a body in a file that nobody else sees, so that it can be read twice.
type spooled struct{ *os.File }

// discard deletes the file.
func (s spooled) discard() {
	_ = s.Close()
	_ = os.Remove(s.Name()) // gone already, where a file can be removed while it is open
}

// archiveTypes are the media types of a body that is an archive; curl calls it a form unless told otherwise.
var archiveTypes = []string{"", archiveType, "application/x-zstd", "application/octet-stream", "application/x-tar", "application/x-www-form-urlencoded"}

// spool writes the body of a request to a file in the folder, within the limits of its route. Each part of it may take as
// long as the body of another request.
func spool(x *exchange, folder string) (spooled, error) {
	r, limit := x.c.Request, x.route.bodyLimit
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if r.Header.Get("Content-Type") == "" {
		media, err = "", nil
	}
	if err != nil || !slices.Contains(archiveTypes, media) || r.Header.Get("Content-Encoding") != "" {
		return spooled{}, unsupportedType("the body must be an archive as an export gives it; send the header Content-Type: " + archiveType)
	}
	if r.ContentLength > limit {
		return spooled{}, tooLarge(limit)
	}
	f, err := os.CreateTemp(folder, "import-*.tmp")
	if err != nil {
		return spooled{}, fmt.Errorf("server: import: %w", err)
	}
	file := spooled{f}
	_ = os.Remove(f.Name()) // fails on systems that keep the name of an open file; it then goes with discard
	control := http.NewResponseController(x.c.Writer)
	body := http.MaxBytesReader(x.c.Writer, r.Body, limit)
	for {
		_ = control.SetReadDeadline(time.Now().Add(bodyTimeout))
		if _, err = io.CopyN(f, body, 1<<20); err != nil {
			break
		}
	}
	_ = control.SetReadDeadline(time.Time{})
	var large *http.MaxBytesError
	var disk *os.PathError
	switch {
	case errors.Is(err, io.EOF):
		return file, nil
	case errors.As(err, &large):
		err = tooLarge(limit)
	case errors.As(err, &disk):
		err = fmt.Errorf("%w: server: import: %w", database.ErrFull, err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = &wireError{Status: http.StatusRequestTimeout, Type: typeInvalidRequest, Code: "request_timeout", Message: "the body did not arrive in time"}
	default:
		err = invalidRequest("", "the body ended early or is badly framed")
	}
	file.discard()
	return spooled{}, err
}
