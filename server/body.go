package server

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"time"
)

// bodyTimeout is how long a client may take to send its body.
const bodyTimeout = 60 * time.Second

// readTable reads the body and decodes it by its table.
func readTable[T any](x *exchange, fields []field[T], t *T) error {
	v, err := readValue(x)
	if err != nil {
		return err
	}
	return decode(fields, v, t)
}

// readValue reads the body as JSON.
func readValue(x *exchange) (value, error) {
	body, err := readBody(x)
	if err != nil {
		return value{}, err
	}
	return parseValue(body)
}

// readBody returns the body of a request within the limits of its route.
func readBody(x *exchange) ([]byte, error) {
	r, limit := x.c.Request, x.route.bodyLimit
	if err := checkContentType(r.Header); err != nil {
		return nil, err
	}
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	control := http.NewResponseController(x.c.Writer)
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout)) // recorders have no deadlines
	body, err := io.ReadAll(http.MaxBytesReader(x.c.Writer, r.Body, limit))
	// The deadline must not outlive the body: it would end the request's context.
	_ = control.SetReadDeadline(time.Time{})
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, tooLarge(limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &wireError{Status: http.StatusRequestTimeout, Type: typeInvalidRequest, Code: "request_timeout", Message: "the body did not arrive in time"}
	case err != nil:
		return nil, invalidRequest("", "the body ended early or is badly framed")
	case len(body) == 0:
		return nil, invalidRequest("", "the body is empty, a JSON object is expected")
	}
	return body, nil
}

func tooLarge(limit int64) error {
	return &wireError{
		Status: http.StatusRequestEntityTooLarge, Type: typeInvalidRequest, Code: "request_too_large",
		Message: "the body is larger than " + formatBytes(limit),
	}
}

// checkContentType accepts JSON and bodies that do not say what they are. curl -d calls JSON a form, which is accepted
// from what is no browser: pages of other sites can send forms without asking, but browsers then add one of the headers
// that say where the page is from.
func checkContentType(h http.Header) error {
	if encoding := h.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return unsupportedType("compressed bodies are not supported, got Content-Encoding " + shorten(encoding))
	}
	contentType := h.Get("Content-Type")
	if contentType == "" {
		return nil
	}
	media, params, err := mime.ParseMediaType(contentType)
	charset := params["charset"]
	browser := h.Get("Origin") != "" || h.Get("Sec-Fetch-Site") != ""
	switch {
	case err != nil || media != "application/json" && (media != "application/x-www-form-urlencoded" || browser):
		return unsupportedType("the body must be JSON; send the header Content-Type: application/json instead of " + shorten(contentType))
	case charset != "" && charset != "utf-8" && charset != "UTF-8":
		return unsupportedType("the body must be UTF-8, got charset " + shorten(charset))
	}
	return nil
}

func unsupportedType(message string) error {
	return &wireError{Status: http.StatusUnsupportedMediaType, Type: typeInvalidRequest, Code: "unsupported_media_type", Message: message}
}
