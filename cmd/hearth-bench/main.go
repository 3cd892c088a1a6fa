// Command hearth-bench measures an inference server from outside: time to first token, time between tokens and
// throughput at levels of concurrency. It holds no engine and works with any server that speaks OpenAI's or Ollama's
// protocol.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"hearth/bench/load"
)

// version is the release; the linker sets it (-ldflags "-X main.version=…").
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "hearth-bench:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	var (
		options  load.Options
		protocol string
		asJSON   bool
		quiet    bool
	)
	command := &cobra.Command{
		Use:   "hearth-bench --target http://HOST:PORT",
		Short: "Measure an inference server",
		Long: `Sends chat requests at each level of concurrency, and prints time to first token (TTFT), time between tokens (ITL),
time of whole answers (E2E) and throughput. Prompts are made of random words, so that a prefix cache finds only what
--shared-prefix makes equal. Token counts are the server's own. The exit status is 1 when any request failed.

The key of servers that want one is read from the environment variable HEARTH_API_KEY.`,
		Example: "  hearth-bench --target http://127.0.0.1:8080 --concurrency 1,8,32 --requests 64 --prompt-tokens 512 --max-tokens 64\n" +
			"  hearth-bench --target http://127.0.0.1:11434 --protocol ollama --model qwen3:0.6b --json",
		Version:       version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			options.Protocol = load.Protocol(protocol)
			options.APIKey = os.Getenv("HEARTH_API_KEY")
			if !cmd.Flags().Changed("seed") { // a server may still have the prompts of the run before in its cache
				options.Seed = uint64(rand.Uint32())
			}
			if !quiet {
				options.Progress = newProgress(cmd.ErrOrStderr(), options.Concurrency)
			}
			report, err := load.Run(cmd.Context(), options)
			if err != nil {
				return err
			}
			if err := write(cmd.OutOrStdout(), report, asJSON); err != nil {
				return err
			}
			if n := report.Errors(); n > 0 {
				return fmt.Errorf("%d requests failed", n)
			}
			return nil
		},
	}
	flags := command.Flags()
	flags.StringVar(&options.Target, "target", "", "address of the server (required)")
	flags.StringVar(&protocol, "protocol", string(load.OpenAI), "openai or ollama")
	flags.StringVar(&options.Model, "model", "", "model to ask (default: the first that the server lists)")
	flags.IntSliceVar(&options.Concurrency, "concurrency", []int{1}, "levels of concurrency, separated by commas")
	flags.IntVar(&options.Requests, "requests", 0, "requests of each level (default: 4 for each concurrent one, at least 10)")
	flags.IntVar(&options.Warmup, "warmup", 1, "requests before the first level that are not counted; -1: none")
	flags.IntVar(&options.PromptTokens, "prompt-tokens", 128, "length of each prompt in tokens, as near as words allow")
	flags.IntVar(&options.MaxTokens, "max-tokens", 64, "tokens to generate for each request")
	flags.Float64Var(&options.SharedPrefix, "shared-prefix", 0, "part of each prompt that all requests share, 0 to 1")
	flags.BoolVar(&options.StopEarly, "stop-early", false, "let the model end its answers before --max-tokens")
	flags.Uint64Var(&options.Seed, "seed", 0, "seed of the prompts' words (default: another one in each run)")
	flags.DurationVar(&options.Timeout, "timeout", 0, "most time of one request (default 10m)")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	flags.BoolVarP(&quiet, "quiet", "q", false, "show no progress")
	if err := command.MarkFlagRequired("target"); err != nil {
		panic(err)
	}
	return command
}

func write(out io.Writer, report *load.Report, asJSON bool) error {
	if !asJSON {
		return report.WriteTable(out)
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(report)
}

// newProgress returns a progress report that rewrites one line of a terminal; elsewhere it says nothing.
func newProgress(out io.Writer, levels []int) func(level, done, total int) {
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return nil
	}
	const width = 30
	var mu sync.Mutex
	return func(level, done, total int) {
		mu.Lock()
		defer mu.Unlock()
		full := width * done / total
		fmt.Fprintf(out, "\rconcurrency %-4d [%s%s] %d/%d", levels[level], strings.Repeat("=", full), strings.Repeat(" ", width-full), done, total)
		if done == total {
			fmt.Fprint(out, "\r\x1b[K")
		}
	}
}
