package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

func newSessionsCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "sessions",
		Short: "List, read, search, fork, move and delete the sessions that a server keeps",
		Long: `Sessions are conversations that a server keeps, with what it computed of them.

The commands ask the server at --url, by default the one of this machine. Where none runs there, or with --data-dir, they
open the data folder themselves; then what a model computed is neither shown nor exported. Beside a server that uses the
folder they only read it: what changes sessions asks that server, by its --url.`,
		Example: `  hearth sessions list
  hearth sessions search "red ball"
  hearth sessions fork conv_123 --items 4 --title "another ending"
  hearth sessions export conv_123 --out story.tar.zst && hearth sessions import story.tar.zst --url http://other:8080`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, sub := range []func() *cobra.Command{
		newSessionsList, newSessionsShow, newSessionsSearch, newSessionsFork, newSessionsRemove, newSessionsExport, newSessionsImport, newSessionsBackup,
	} {
		command.AddCommand(sub())
	}
	return command
}

// sessionLine is a session as these commands read it from the server.
type sessionLine struct {
	ID        string  `json:"id"`
	Title     string  `json:"title"`
	Model     *string `json:"model"`
	UpdatedAt int64   `json:"updated_at"`
	CreatedAt int64   `json:"created_at"`
	ExpiresAt *int64  `json:"expires_at"`
	Pinned    bool    `json:"pinned"`
	Items     int     `json:"items"`
	Bytes     int64   `json:"bytes"`
	Parent    *struct {
		ID    string `json:"id"`
		Items int    `json:"items"`
	} `json:"parent"`
	Computed *struct {
		Tokens    int     `json:"tokens"`
		Memory    tierUse `json:"memory"`
		Disk      tierUse `json:"disk"`
		RestoreMS float64 `json:"restore_ms"`
	} `json:"computed"`
	Match struct {
		Type    string `json:"type"`
		Excerpt string `json:"excerpt"`
	} `json:"match"`
}

type tierUse struct {
	Tokens int   `json:"tokens"`
	Bytes  int64 `json:"bytes"`
}

// sessionsPage is what one request for a list asks for.
const sessionsPage = 100

// list calls take with the entries of a list, at most limit and page by page, until there are no more.
func (c *sessionsClient) list(cmd *cobra.Command, path string, query url.Values, limit int, take func(json.RawMessage) error) error {
	for limit > 0 {
		query.Set("limit", strconv.Itoa(min(limit, sessionsPage)))
		var page struct {
			Data    []json.RawMessage `json:"data"`
			LastID  string            `json:"last_id"`
			HasMore bool              `json:"has_more"`
		}
		if err := c.call(cmd.Context(), http.MethodGet, path+"?"+query.Encode(), nil, &page); err != nil {
			return err
		}
		for _, entry := range page.Data {
			if err := take(entry); err != nil {
				return err
			}
		}
		limit -= len(page.Data)
		if !page.HasMore || len(page.Data) == 0 {
			return nil
		}
		query.Set("after", page.LastID)
	}
	return nil
}

// sessionsTable prints sessions, one a line, as a table or as JSON Lines.
func sessionsTable(cmd *cobra.Command, c *sessionsClient, path string, query url.Values, limit int) error {
	if limit < 1 {
		return fmt.Errorf("--limit: %d, want at least 1", limit)
	}
	out := cmd.OutOrStdout()
	if c.flags.json {
		return c.list(cmd, path, query, limit, func(raw json.RawMessage) error {
			_, err := fmt.Fprintf(out, "%s\n", raw)
			return err
		})
	}
	w := tabwriter.NewWriter(visibleWriter{out}, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tCHANGED\tITEMS\tSIZE\tMODEL\tTITLE")
	printed := 0
	err := c.list(cmd, path, query, limit, func(raw json.RawMessage) error {
		var s sessionLine
		if err := json.Unmarshal(raw, &s); err != nil {
			return fmt.Errorf("the server's answer: %w", err)
		}
		title := s.Title
		if s.Match.Excerpt != "" && (s.Match.Type != "title" || title == "") {
			title = strings.TrimSpace(title + "  " + s.Match.Excerpt)
		}
		if s.Pinned {
			title = strings.TrimSpace("[pinned] " + title)
		}
		printed++
		_, err := fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\n", s.ID, clock(s.UpdatedAt), s.Items, formatBytes(uint64(s.Bytes)), orDash(s.Model), inTable(title))
		return err
	})
	if err != nil && printed == 0 {
		return err // the head of a table would look like an empty list
	}
	return errors.Join(err, w.Flush())
}

func orDash(s *string) string {
	if s == nil || *s == "" {
		return "-"
	}
	return *s
}

func clock(seconds int64) string { return time.Unix(seconds, 0).Format("2006-01-02 15:04") }

// inTable keeps a text from breaking a table.
func inTable(text string) string { return strings.Join(strings.Fields(text), " ") }

func newSessionsList() *cobra.Command {
	var flags sessionsFlags
	limit := 0
	command := &cobra.Command{
		Use:   "list",
		Short: "List sessions, newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return flags.with(cmd, readingOnly, func(c *sessionsClient) error {
				return sessionsTable(cmd, c, "/v1/sessions", url.Values{}, limit)
			})
		},
	}
	flags.add(command)
	addLimit(command, &limit)
	return command
}

func addLimit(command *cobra.Command, limit *int) {
	command.Flags().IntVarP(limit, "limit", "n", 20, "most sessions to print")
}

func newSessionsSearch() *cobra.Command {
	var flags sessionsFlags
	limit := 0
	command := &cobra.Command{
		Use:   "search WORDS",
		Short: "List the sessions whose title or an item of which has all of the words",
		Long: `Lists the sessions whose title has all of the words, and then those with an item that has them, the newest match first. Words in
double quotes are found in this order only, and word* finds what begins so, with three characters or more. Case and accents do
not matter.`,
		Example: `  hearth sessions search red ball
  hearth sessions search '"red ball"' 'play*'`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return flags.with(cmd, readingOnly, func(c *sessionsClient) error {
				return sessionsTable(cmd, c, "/v1/sessions/search", url.Values{"q": {strings.Join(args, " ")}}, limit)
			})
		},
	}
	flags.add(command)
	addLimit(command, &limit)
	return command
}

func newSessionsShow() *cobra.Command {
	var flags sessionsFlags
	command := &cobra.Command{
		Use:   "show ID",
		Short: "Print a session with its items",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return flags.with(cmd, readingOnly, func(c *sessionsClient) error { return showSession(cmd, c, sessionPath(args[0])) })
		},
	}
	flags.add(command)
	return command
}

func sessionPath(id string) string { return "/v1/sessions/" + url.PathEscape(id) }

// everything is a limit that no session reaches.
const everything = 1 << 30

func showSession(cmd *cobra.Command, c *sessionsClient, path string) error {
	var raw json.RawMessage
	if err := c.call(cmd.Context(), http.MethodGet, path, nil, &raw); err != nil {
		return err
	}
	items := url.Values{"order": {"asc"}}
	out := cmd.OutOrStdout()
	if c.flags.json {
		fmt.Fprintf(out, "%s\n", raw)
		return c.list(cmd, path+"/items", items, everything, func(item json.RawMessage) error {
			_, err := fmt.Fprintf(out, "%s\n", item)
			return err
		})
	}
	var s sessionLine
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("the server's answer: %w", err)
	}
	printSession(visibleWriter{out}, &s)
	return c.list(cmd, path+"/items", items, everything, func(item json.RawMessage) error { return printItem(visibleWriter{out}, item) })
}

func printSession(out io.Writer, s *sessionLine) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	defer w.Flush()
	fmt.Fprintf(w, "id\t%s\n", s.ID)
	if s.Title != "" {
		fmt.Fprintf(w, "title\t%s\n", inTable(s.Title))
	}
	fmt.Fprintf(w, "model\t%s\ncreated\t%s\nchanged\t%s\n", orDash(s.Model), clock(s.CreatedAt), clock(s.UpdatedAt))
	if s.ExpiresAt != nil {
		fmt.Fprintf(w, "expires\t%s\n", clock(*s.ExpiresAt))
	}
	if s.Pinned {
		fmt.Fprintln(w, "pinned\tyes")
	}
	if s.Parent != nil {
		fmt.Fprintf(w, "forked from\t%s behind item %d\n", s.Parent.ID, s.Parent.Items)
	}
	fmt.Fprintf(w, "items\t%d, %s\n", s.Items, formatBytes(uint64(s.Bytes)))
	if c := s.Computed; c != nil {
		fmt.Fprintf(w, "computed\t%d tokens: %d in memory (%s), %d with the disk (%s)", c.Tokens, c.Memory.Tokens, formatBytes(uint64(c.Memory.Bytes)),
			c.Disk.Tokens, formatBytes(uint64(c.Disk.Bytes)))
		if c.RestoreMS > 0 {
			fmt.Fprintf(w, ", read in about %.0f ms", c.RestoreMS)
		}
		fmt.Fprintln(w)
	}
}

// printItem prints the text of a message, and of other items what they are.
func printItem(out io.Writer, raw json.RawMessage) error {
	var item struct {
		Type, ID, Role, Status, Name, Arguments, Input string
		Output                                         json.RawMessage
		Content                                        []struct{ Type, Text, Refusal string }
	}
	if err := json.Unmarshal(raw, &item); err != nil {
		return fmt.Errorf("the server's answer: %w", err)
	}
	head, body := item.Type, ""
	switch {
	case item.Type == "message":
		head = item.Role
	case item.Name != "":
		head, body = item.Type+" "+item.Name, item.Arguments+item.Input
	case item.Output != nil:
		body = string(item.Output)
	}
	for _, part := range item.Content {
		body += part.Text + part.Refusal
	}
	if item.Status != "" && item.Status != "completed" {
		head += " (" + strings.ReplaceAll(item.Status, "_", " ") + ")"
	}
	_, err := fmt.Fprintf(out, "\n%s  %s\n%s\n", head, item.ID, strings.TrimRight(body, "\n"))
	return err
}
