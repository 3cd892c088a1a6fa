// Command hearth serves open-weight language models on the machine it is started on.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// commands lists every subcommand; each has a file of its own.
var commands = []func() *cobra.Command{
	newServeCommand,
	newRunCommand,
	newSessionsCommand,
	newInspectCommand,
	newSynthCommand,
	newQuantizeCommand,
	newPerplexityCommand,
	newTokenizeCommand,
	newDetokenizeCommand,
	newTemplateCommand,
	newDoctorCommand,
	newBenchCommand,
	newLogitsCommand,
	newVersionCommand,
}

func main() {
	ctx := untilInterrupted()
	if err := newRootCommand().ExecuteContext(ctx); err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			err = interrupted(ctx) // where it was is of no use
		}
		fmt.Fprintln(os.Stderr, "hearth:", visible(err.Error())) // errors may quote model files
		if unknown := strings.HasPrefix(err.Error(), "unknown command"); unknown && !strings.Contains(err.Error(), "--help") {
			fmt.Fprintln(os.Stderr, "see 'hearth --help'") // cobra's own error, of a command that is none
		}
		os.Exit(exitStatus(err))
	}
}

// newRootCommand builds the whole command tree; tests run it with arguments of their own.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "hearth",
		Short:         "Serve open-weight language models on your own machine",
		Version:       versionLine(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	for _, command := range commands {
		root.AddCommand(command())
	}
	root.SetVersionTemplate("{{.Version}}\n")
	seeHelp(root)
	return root
}
