package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"hearth/sessions/archive"
)

// archiveFlags are those of the commands that save a conversation and that go on with one.
type archiveFlags struct {
	sessionsFlags
	computed bool
}

// add adds the flags; does says what the command does with what the model computed.
func (f *archiveFlags) add(command *cobra.Command, does string) {
	f.sessionsFlags.add(command)
	command.Flags().BoolVar(&f.computed, "computed", true, does+" what the model computed, too")
}

func newSessionsExport() *cobra.Command {
	var (
		flags archiveFlags
		out   string
		force bool
	)
	command := &cobra.Command{
		Use:   "export SESSION",
		Short: "Save a conversation as one file",
		Long: `Saves a conversation as one file, SESSION.tar.zst or the one that --out names; - is standard output. Another server goes on
with it at once, and tar and a text editor read it: README.txt in it says what is where.

The file holds the items, the exact tokens of the last turn, and what the model computed of them, which is most of it;
--computed=false leaves that out. A data folder without its server has only the items to give.`,
		Example: `  hearth sessions export conv_1234
  hearth sessions export conv_1234 --computed=false --out - | tar --zstd -xO items.jsonl`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				out = filepath.Base(args[0]) + ".tar.zst"
			}
			save := func(w io.Writer) error {
				return flags.with(cmd, readingOnly, func(c *sessionsClient) error { return c.export(cmd.Context(), args[0], flags.computed, w) })
			}
			if out == "-" {
				return save(cmd.OutOrStdout())
			}
			if _, err := os.Lstat(out); err == nil && !force {
				return fmt.Errorf("%s is there already; --force replaces it", out)
			}
			if err := writeArchive(out, save); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), out)
			return err
		},
	}
	flags.add(command, "save")
	command.Flags().StringVar(&out, "out", "", "file to write (default: SESSION.tar.zst)")
	command.Flags().BoolVar(&force, "force", false, "replace the file if it is there")
	return command
}

// export writes the archive of a session.
func (c *sessionsClient) export(ctx context.Context, id string, computed bool, w io.Writer) error {
	answer, err := c.send(ctx, http.MethodGet, sessionPath(id)+"/export?computed="+strconv.FormatBool(computed), "", nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(w, answer.Body)
	return err
}

// writeArchive writes a file that is whole or not there.
func writeArchive(path string, write func(io.Writer) error) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // of mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // fails when it has its name
	err = write(file)
	if err == nil {
		err = checkArchive(file)
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

// checkArchive reads an archive from its beginning to its end.
func checkArchive(file io.ReadSeeker) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	a, err := archive.Open(file, archive.Limits{})
	if err != nil {
		return err
	}
	defer a.Close()
	for {
		if _, err := a.Next(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func newSessionsImport() *cobra.Command {
	var (
		flags  archiveFlags
		model  string
		keepID bool
	)
	command := &cobra.Command{
		Use:   "import FILE",
		Short: "Go on with a conversation that was exported",
		Long: `Gives a server a conversation that was exported, from the same server or another one, and prints its id. - is standard input.

What the model computed is taken where the server has the same model. The server cannot tell whether it is what that model
would compute of the tokens, and uses it also for other conversations that begin alike: of files from strangers, take the
text alone with --computed=false.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var body io.Reader = cmd.InOrStdin()
			if args[0] != "-" {
				file, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer file.Close()
				if err := checkArchive(file); err != nil {
					return fmt.Errorf("%s: %w", args[0], err)
				}
				if _, err := file.Seek(0, io.SeekStart); err != nil {
					return err
				}
				body = file
			}
			query := url.Values{"computed": {strconv.FormatBool(flags.computed)}, "keep_id": {strconv.FormatBool(keepID)}}
			if model != "" {
				query.Set("model", model)
			}
			var answer struct {
				ID             string   `json:"id"`
				Items          int      `json:"items"`
				Tokens         int      `json:"tokens"`
				ComputedTokens int      `json:"computed_tokens"`
				LeftOut        []string `json:"left_out"`
			}
			err := flags.with(cmd, changing, func(c *sessionsClient) error {
				return c.ask(cmd.Context(), http.MethodPost, "/v1/sessions/import?"+query.Encode(), "application/zstd", body, &answer)
			})
			if err != nil {
				return err
			}
			if flags.json {
				return writeJSON(cmd.OutOrStdout(), answer)
			}
			for _, reason := range answer.LeftOut {
				fmt.Fprintln(cmd.ErrOrStderr(), "left out:", visible(reason))
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s  %d items, %d tokens, %d of them computed\n", visible(answer.ID), answer.Items, answer.Tokens, answer.ComputedTokens)
			return err
		},
	}
	flags.add(command, "take")
	command.Flags().StringVar(&model, "model", "", "id of the served model that goes on (default: that of the file)")
	command.Flags().BoolVar(&keepID, "keep-id", false, "keep the conversation's id, which must be free")
	return command
}
