package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"hearth/engine"
	"hearth/server"
	"hearth/sessions"
	"hearth/sessions/database"
)

// sessionsFlags say whose sessions are meant.
type sessionsFlags struct {
	url, key, dir, tenant string
	json                  bool
	unanswered            bool // a server was asked for, and there is none
}

const usualURL = "http://127.0.0.1:8080"

func (f *sessionsFlags) add(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVar(&f.url, "url", usualURL, "address of the server")
	flags.StringVar(&f.key, "api-key", "", "key of the server (better: the variable "+apiKeyVariable+")")
	flags.StringVar(&f.dir, "data-dir", defaultDataDir(), "data folder to open where no server runs")
	flags.StringVar(&f.tenant, "tenant", sessions.DefaultTenant, "whose sessions in the data folder; a server knows it by the key")
	flags.BoolVar(&f.json, "json", false, "print JSON, as the server answers")
}

// sessionsAccess is what a command does with the sessions.
type sessionsAccess uint8

const (
	readingOnly sessionsAccess = iota
	changing
)

// sessionsClient asks a server.
type sessionsClient struct {
	flags *sessionsFlags
	base  string
	key   string
	http  http.Client
}

// with calls f with a client of the server that the flags name, or of one of this process on the data folder.
func (f *sessionsFlags) with(cmd *cobra.Command, access sessionsAccess, do func(*sessionsClient) error) error {
	c := &sessionsClient{flags: f, base: strings.TrimSuffix(f.url, "/"), key: f.key}
	if c.key == "" {
		c.key = os.Getenv(apiKeyVariable)
	}
	if u, err := url.Parse(f.url); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("--url: %q is not an address like %s", f.url, usualURL)
	}
	given := cmd.Flags().Changed
	if given("url") && (given("data-dir") || given("tenant")) {
		return errors.New("--url: a server has a data folder, and knows the tenant by the key")
	}
	if given("api-key") && (given("data-dir") || given("tenant")) {
		return errors.New("--api-key has no use: it is a server's, and --data-dir and --tenant name a folder that is opened without one")
	}
	f.unanswered = !given("url") && !given("data-dir") && !given("tenant") && !c.answers(cmd.Context())
	if !f.unanswered && !given("data-dir") && !given("tenant") {
		return do(c)
	}
	return f.withFolder(cmd.Context(), access, do)
}

// answers reports whether there is a server of ours.
func (c *sessionsClient) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var answer struct{ Version, Go, Platform string } // others tell their version only
	return c.call(ctx, http.MethodGet, "/version", nil, &answer) == nil && answer.Version != "" && answer.Go != "" && answer.Platform != ""
}

// withFolder calls do with a client of a server of this process, which has the data folder and no models. It listens on an
// address of this machine that nobody is told of, and wants a key that nobody else knows.
func (f *sessionsFlags) withFolder(ctx context.Context, access sessionsAccess, do func(*sessionsClient) error) (err error) {
	quiet := slog.New(slog.DiscardHandler)
	db, err := f.open(ctx, access, quiet)
	if errors.Is(err, os.ErrNotExist) && f.unanswered {
		err = fmt.Errorf("%w, and no server answers at %s (--data-dir names another folder, --url a server)", err, f.url)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	c := &sessionsClient{flags: f, key: rand.Text()}
	s, err := server.New(sessions.NewStore(engine.NewCatalog(), db), server.Options{
		Addr: "127.0.0.1:0", APIKeys: []server.APIKey{{Tenant: f.tenant, Key: c.key}}, Logger: quiet, Version: version, DrainTimeout: time.Second,
	})
	if err != nil {
		return err
	}
	listener, err := s.Listen()
	if err != nil {
		return err
	}
	c.base = "http://" + listener.Addr().String()
	serving, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- s.Serve(serving, listener) }()
	err = do(c)
	c.http.CloseIdleConnections()
	stop()
	return errors.Join(err, <-served)
}

// open opens the database of the data folder, which has to be there.
func (f *sessionsFlags) open(ctx context.Context, access sessionsAccess, logger *slog.Logger) (*database.DB, error) {
	path := filepath.Join(f.dir, databaseFile)
	if _, err := os.Stat(path); err != nil { // a database that is opened for changing would be made
		return nil, fmt.Errorf("--data-dir: %w", err)
	}
	return database.Open(ctx, path, database.Options{ReadOnly: access == readingOnly, Logger: logger})
}

// call sends a request, whose body is JSON unless nil, and reads the answer.
func (c *sessionsClient) call(ctx context.Context, method, path string, body, answer any) error {
	if body == nil {
		return c.ask(ctx, method, path, "", nil, answer)
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return c.ask(ctx, method, path, "application/json", bytes.NewReader(raw), answer)
}

// ask sends a request and reads the answer, which is JSON, into answer.
func (c *sessionsClient) ask(ctx context.Context, method, path, contentType string, body io.Reader, answer any) error {
	response, err := c.send(ctx, method, path, contentType, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		return fmt.Errorf("the answer of %s: %w", c.base, err)
	}
	return nil
}

// send sends a request and returns an answer that is no error. The caller closes its body.
func (c *sessionsClient) send(ctx context.Context, method, path, contentType string, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		request.Header.Set("Content-Type", contentType)
	}
	if c.key != "" {
		request.Header.Set("Authorization", "Bearer "+c.key)
	}
	response, err := c.http.Do(request)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("no server answers at %s (start one with hearth serve)", c.base)
	}
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error struct{ Message string }
	}
	if json.Unmarshal(raw, &answer) != nil || answer.Error.Message == "" {
		return nil, fmt.Errorf("%s answers %s", c.base, response.Status)
	}
	return nil, errors.New(answer.Error.Message)
}
