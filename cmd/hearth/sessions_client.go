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
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"hearth/engine"
	"hearth/kvcache/disk"
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

// answersWithin is how long a server at the usual address may take to say that it is one: it may be loading or computing.
const answersWithin = 30 * time.Second

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
	if given("data-dir") || given("tenant") {
		return f.withFolder(cmd.Context(), access, do)
	}
	if !given("url") {
		answers, err := c.answers(cmd.Context(), answersWithin)
		if err != nil {
			return err
		}
		if f.unanswered = !answers; f.unanswered {
			return f.withFolder(cmd.Context(), access, do)
		}
	}
	return do(c)
}

// answers reports whether there is a server of ours. One that is later than within is an error: it may be ours and busy.
func (c *sessionsClient) answers(ctx context.Context, within time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var answer struct{ Version, Go, Platform string } // others tell their version only
	err := c.call(ctx, http.MethodGet, "/version", nil, &answer)
	var late net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return false, err
	case errors.As(err, &late) && late.Timeout():
		return false, fmt.Errorf("%s does not answer within %v: try again if a server is busy there, or give --url for another server, or --data-dir for a folder that no server uses", c.base, within)
	}
	return err == nil && answer.Version != "" && answer.Go != "" && answer.Platform != "", nil
}

// withFolder calls do with a client of a server of this process, which has the data folder and no models. It listens on an
// address of this machine that nobody is told of, and wants a key that nobody else knows.
func (f *sessionsFlags) withFolder(ctx context.Context, access sessionsAccess, do func(*sessionsClient) error) (err error) {
	quiet := slog.New(slog.DiscardHandler)
	folder, err := f.open(ctx, access, quiet)
	if errors.Is(err, os.ErrNotExist) && f.unanswered {
		err = fmt.Errorf("%w, and no server answers at %s (--data-dir names another folder, --url a server)", err, f.url)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	c := &sessionsClient{flags: f, key: rand.Text()}
	s, err := server.New(sessions.NewStore(engine.NewCatalog(), folder.database), server.Options{
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

// open opens the database of the data folder, which has to be there. Who changes it has the folder's lock until it is closed:
// a server that uses the folder would not learn what it no longer has to keep computed. Reading beside a server does no harm.
func (f *sessionsFlags) open(ctx context.Context, access sessionsAccess, logger *slog.Logger) (*dataFolder, error) {
	path := filepath.Join(f.dir, databaseFile)
	if _, err := os.Stat(path); err != nil { // a database that is opened for changing would be made
		return nil, fmt.Errorf("--data-dir: %w", err)
	}
	folder := &dataFolder{}
	var err error
	if access == changing {
		if folder.lock, err = disk.Lock(filepath.Join(f.dir, lockFile)); err != nil {
			return nil, fmt.Errorf("--data-dir: %s cannot be locked: give --url if a server uses it, or wait for another command that changes it: %w", f.dir, err)
		}
	}
	if folder.database, err = database.Open(ctx, path, database.Options{ReadOnly: access == readingOnly, Logger: logger}); err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	return folder, nil
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
