package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/spf13/cobra"
)

func newSessionsFork() *cobra.Command {
	var flags sessionsFlags
	var item, title string
	var items, token int
	command := &cobra.Command{
		Use:   "fork ID",
		Short: "Make a session that goes on from a place in another one",
		Long: `Makes a new session that has what another one has up to a place: behind an item, behind a number of items, behind a number
of tokens, or all of it. What both have is kept once, and so is what was computed of it. It prints the id of the new one.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]any{}
			for name, value := range map[string]any{"item": item, "items": items, "token": token, "title": title} {
				if cmd.Flags().Changed(name) {
					body[name] = value
				}
			}
			return flags.with(cmd, changing, func(c *sessionsClient) error {
				return c.print(cmd, http.MethodPost, sessionPath(args[0])+"/fork", body)
			})
		},
	}
	flags.add(command)
	command.Flags().StringVar(&item, "item", "", "id of the last item that both have")
	command.Flags().IntVar(&items, "items", 0, "how many items both have")
	command.Flags().IntVar(&token, "token", 0, "how many tokens both have, which may end inside an answer; a question that they end in is left out")
	command.Flags().StringVar(&title, "title", "", "title of the new session")
	command.MarkFlagsMutuallyExclusive("item", "items", "token")
	return command
}

// print sends a request and prints the answer's id, or all of it as JSON.
func (c *sessionsClient) print(cmd *cobra.Command, method, path string, body any) error {
	var raw json.RawMessage
	if err := c.call(cmd.Context(), method, path, body, &raw); err != nil {
		return err
	}
	if c.flags.json {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", raw)
		return err
	}
	var answer struct{ ID string }
	if err := json.Unmarshal(raw, &answer); err != nil {
		return fmt.Errorf("the server's answer: %w", err)
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), visible(answer.ID))
	return err
}

func newSessionsRemove() *cobra.Command {
	var flags sessionsFlags
	command := &cobra.Command{
		Use:   "rm ID...",
		Short: "Delete sessions with all that was computed of them",
		Long: `Deletes sessions: their items, their responses, their tokens, and what was computed of them as far as no other session has
it. Where no server runs, what was computed is deleted when a server next loads the model.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return flags.with(cmd, changing, func(c *sessionsClient) error {
				var errs []error
				for _, id := range args {
					if err := c.print(cmd, http.MethodDelete, sessionPath(id), nil); err != nil {
						errs = append(errs, fmt.Errorf("%s: %w", id, err))
					}
				}
				return errors.Join(errs...)
			})
		},
	}
	flags.add(command)
	return command
}

func newSessionsBackup() *cobra.Command {
	var flags sessionsFlags
	command := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write a copy of the database to a file, also while a server runs",
		Long: `Writes a copy of the database of the data folder, as it is at this moment, to a new file. A server may be running. To go
back to it, stop the server, remove state.db-wal and state.db-shm, and put the copy in the place of state.db.

The folder keys of the data folder belongs to a backup too. What the folder cache has can be computed again.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			folder, err := flags.open(cmd.Context(), readingOnly, slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, folder.Close()) }()
			return folder.database.Backup(cmd.Context(), args[0])
		},
	}
	command.Flags().StringVar(&flags.dir, "data-dir", defaultDataDir(), "data folder of the server")
	return command
}
