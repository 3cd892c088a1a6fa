package main

import (
	"strings"

	"github.com/spf13/cobra"

	"hearth/engine"
	"hearth/hardware/all"
)

// complete gives the shell the values of a flag.
func complete(command *cobra.Command, flag string, values ...string) {
	if err := command.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic("cmd: " + err.Error())
	}
}

// completeEngine does so for the flags of commands that run models.
func completeEngine(command *cobra.Command) {
	completeDevice(command)
	complete(command, "kv-type", "f32", "f16", "bf16", "q8_0")
}

// completeDraft does so for the flags of commands that guess tokens.
func completeDraft(command *cobra.Command) {
	complete(command, "speculate", engine.SpeculateNames()...)
}

func completeDevice(command *cobra.Command) {
	complete(command, "device", strings.Split(all.NameList(), ", ")...)
}
