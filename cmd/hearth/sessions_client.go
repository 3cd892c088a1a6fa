package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"hearth/engine"
	"hearth/sessions"
	"hearth/sessions/database"
)

// sessionClient asks a server about its conversations, or reads the data folder where none runs.
type sessionClient struct {
	url, key        string
	dataDir, tenant string
	elsewhere       bool // a server was named: the data folder is not its
}

// add adds the flags that say which server is meant. Those of commands that only read name the data folder too.
func (c *sessionClient) add(command *cobra.Command, reads bool) {
	flags := command.Flags()
	flags.StringVar(&c.url, "url", "http://127.0.0.1:8080", "address of the server")
	flags.StringVar(&c.key, "api-key", "", "key that the server wants (better: the variable "+apiKeyVariable+")")
	if reads {
		flags.StringVar(&c.dataDir, "data-dir", defaultDataDir(), "data folder that is read where no server runs")
		flags.StringVar(&c.tenant, "tenant", sessions.DefaultTenant, "whose conversations in the data folder are meant")
	}
	command.PreRunE = func(cmd *cobra.Command, _ []string) error {
		c.elsewhere = cmd.Flags().Changed("url")
		if c.key == "" {
			c.key = os.Getenv(apiKeyVariable)
		}
		u, err := url.Parse(c.url)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("--url: %q, want http://HOST:PORT", c.url)
		}
		c.url = strings.TrimSuffix(c.url, "/")
		return nil
	}
}

// errNoServer says that nobody listens at the server's address.
var errNoServer = errors.New("no server runs there")

// send sends a request and returns the answer to it, which the caller closes. An answer that is an error is one.
func (c *sessionClient) send(ctx context.Context, method, path string, body io.Reader, contentType string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, body)
	if err != nil {
		return nil, fmt.Errorf("--url: %w", err)
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%s: %w (start one with hearth serve, or name it with --url)", c.url, errNoServer)
	case err != nil:
		return nil, err
	case resp.StatusCode < 300:
		return resp, nil
	}
	defer resp.Body.Close()
	var failure struct{ Error struct{ Message string } }
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&failure); err != nil || failure.Error.Message == "" {
		return nil, fmt.Errorf("%s: the server answers %s", c.url, resp.Status)
	}
	return nil, errors.New(failure.Error.Message)
}

// ask sends a request and decodes the answer.
func (c *sessionClient) ask(ctx context.Context, method, path string, body io.Reader, contentType string, answer any) error {
	resp, err := c.send(ctx, method, path, body, contentType)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return fmt.Errorf("%s: the server's answer: %w", c.url, err)
	}
	return nil
}

// folder opens the data folder for reading, where err says that no server runs and none was named. Otherwise it returns err.
// The caller closes the database.
func (c *sessionClient) folder(ctx context.Context, err error) (*database.DB, error) {
	path := filepath.Join(c.dataDir, databaseFile)
	if c.elsewhere || !errors.Is(err, errNoServer) {
		return nil, err
	}
	if _, statErr := os.Stat(path); statErr != nil {
		return nil, fmt.Errorf("%w, and there is no data folder %s", err, c.dataDir)
	}
	db, err := database.Open(ctx, path, database.Options{ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("--data-dir: %w", err)
	}
	return db, nil
}

// storeOf is a store of no models.
func storeOf(db *database.DB) *sessions.Store { return sessions.NewStore(engine.NewCatalog(), db) }
