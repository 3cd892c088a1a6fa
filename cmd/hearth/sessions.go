package main

import (
	"github.com/spf13/cobra"
)

// sessionCommands are the subcommands of sessions; each has a file of its own.
var sessionCommands = []func() *cobra.Command{
	newSessionExportCommand,
	newSessionImportCommand,
}

func newSessionsCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "sessions",
		Short: "Work with the conversations that a server keeps",
		Long: `Works with the conversations that a running server keeps. The server is the one at --url; its key, if it wants one, is in the
variable ` + apiKeyVariable + `.

Where no server runs, commands that only read use the data folder instead.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, sub := range sessionCommands {
		command.AddCommand(sub())
	}
	return command
}
