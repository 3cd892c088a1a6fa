package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"hearth/hardware"
	"hearth/server"
)

// flagOf names the flag that sets an option of the packages below, which know no flags.
var flagOf = map[string]string{
	"option ContextLength": "--ctx", "option MaxSequences": "--parallel", "option MaxBatchTokens": "--max-batch-tokens",
	"option MaxWaiting": "--max-queue", "option KVBytes": "--cache-ram", "option MaxDraft": "--max-draft", "Options.Threads": "--threads",
	"option Addr": "--addr", "option APIKeys": "--api-key or --tenant", "option AllowedHosts": "--allowed-host", "option CORSOrigins": "--cors-origin",
	"option MaxBodyBytes": "--max-body", "option RequestTimeout": "--request-timeout", "option DrainTimeout": "--drain-timeout",
	"option MaxBytes": "--cache-disk", "key file": "--cache-key-file",
	"engine: context length": "--ctx", "cpu: level": "--isa", "option Formats": "--format",
	"option Window": "--ctx", "option Stride": "--stride", "option MaxWindows": "--windows",
}

// refusal says with which flag of the command line the reason of an error can be mended, where there is one.
func refusal(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, server.ErrUnprotected):
		return fmt.Errorf("%w (set a key with the variable %s or --api-key, or use --insecure)", err, apiKeyVariable)
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w (choose another with --addr HOST:PORT)", err)
	case errors.Is(err, hardware.ErrOutOfMemory):
		return fmt.Errorf("%w (change --cache-ram, --ctx or --kv-type)", err)
	}
	for option, flag := range flagOf {
		if strings.Contains(err.Error(), option) && !strings.Contains(err.Error(), flag) {
			return fmt.Errorf("%s: %w", flag, err)
		}
	}
	return err
}

// seeHelp makes errors of a command's use say where its help is; it is done for all commands below.
func seeHelp(command *cobra.Command) {
	command.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		unknown, _ := strings.CutPrefix(err.Error(), "unknown flag: ")
		if c.Name() == "serve" && slices.Contains([]string{"--port", "--host"}, unknown) {
			err = fmt.Errorf("%w; the address is --addr HOST:PORT", err)
		}
		return helpHint(c, invalidValue(err))
	})
	for _, c := range command.Commands() {
		seeHelp(c)
		if check := c.Args; check != nil {
			c.Args = func(c *cobra.Command, args []string) error {
				if err := check(c, args); err != nil {
					return helpHint(c, err)
				}
				return nil
			}
		}
	}
}

// invalidValue says of a value that is no number which flag has it and what it is; what else is wrong stays as it is.
func invalidValue(err error) error {
	var invalid *pflag.InvalidValueError
	var number *strconv.NumError
	if !errors.As(err, &invalid) || !errors.As(err, &number) {
		return err
	}
	flag := "--" + invalid.GetFlag().Name
	if short := invalid.GetFlag().Shorthand; short != "" {
		flag = "-" + short + ", " + flag
	}
	switch {
	case errors.Is(number, strconv.ErrRange):
		return fmt.Errorf("%s: %q is out of range", flag, number.Num)
	case number.Func == "ParseBool":
		return fmt.Errorf("%s: %q is neither true nor false", flag, number.Num)
	}
	return fmt.Errorf("%s: %q is not a number", flag, number.Num)
}

func helpHint(c *cobra.Command, err error) error {
	return fmt.Errorf("%w; see '%s --help'", err, c.CommandPath())
}
