package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hearth/engine"
	"hearth/server"
	"hearth/sessions"
)

func newServeCommand() *cobra.Command {
	var flags serveFlags
	command := &cobra.Command{
		Use:   "serve [MODEL…]",
		Short: "Serve models to clients of OpenAI's and Ollama's APIs",
		Long: `Loads the models and answers requests until it is interrupted, by Ctrl-C or SIGTERM, then finishes what runs and exits with
status 0. Interrupted again it ends at once, with status 130 or 143; what it has stored is whole.
MODEL is a GGUF file or a Hugging Face folder, or NAME=PATH to choose the name that clients use. Without a model the
embedded one is served. The server listens at once; /health says how far loading is.`,
		Example: `  hearth serve
  hearth serve qwen3-0.6b-q8_0.gguf --ctx 8192
  ` + apiKeyVariable + `=secret hearth serve chat=model.gguf --addr 0.0.0.0:8080`,
		RunE: func(cmd *cobra.Command, args []string) error {
			models, err := parseModels(args)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), models, &flags, cmd.OutOrStdout())
		},
	}
	flags.add(command.Flags())
	completeEngine(command)
	completeDraft(command)
	complete(command, "log-level", "debug", "info", "warn", "error")
	complete(command, "log-format", "text", "json")
	return command
}

// serve runs the command until ctx ends.
func serve(ctx context.Context, models []modelArg, flags *serveFlags, out io.Writer) (err error) {
	logger, err := flags.logger(os.Stderr)
	if err != nil {
		return err
	}
	opts, err := flags.serverOptions(logger)
	if err != nil {
		return err
	}
	device, err := flags.engine.device.open(logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	engineOpts, err := flags.engine.options(device, models, logger)
	if err != nil {
		return err
	}
	data, err := flags.data.open(context.WithoutCancel(ctx), logger) // an interruption is noticed while models load
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, data.Close()) }() // after the engines, whose last blocks the cache takes
	engineOpts.Disk = data.cache
	catalog := engine.NewCatalog()
	defer func() { err = errors.Join(err, catalog.Close()) }()
	store, err := openSessions(context.WithoutCancel(ctx), catalog, data, &flags.data, logger)
	if err != nil {
		return err
	}
	s, err := server.New(store, opts)
	if err != nil {
		return err
	}
	defer func() { // what runs in the background gets as much time as requests had
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), flags.drainTimeout)
		defer cancel()
		store.Close(ending)
	}()
	listener, err := s.Listen()
	if err != nil {
		return refusal(err)
	}
	serving, stop := context.WithCancel(ctx)
	defer stop()
	served := make(chan error, 1)
	go func() { served <- s.Serve(serving, listener) }()
	if err := loadModels(ctx, models, catalog, engineOpts, logger); err != nil {
		stop()
		if ctx.Err() != nil { // interrupted while loading
			logger.Info("interrupted")
			err = nil
		}
		return errors.Join(err, <-served)
	}
	if len(opts.APIKeys) == 0 && !listensOnLoopback(flags.addr) {
		logger.Warn("everyone who reaches this address can use the server: it has no API key", "addr", listener.Addr())
	}
	swept := make(chan struct{})
	go func() { defer close(swept); store.KeepSwept(serving, sweepPeriod) }()
	defer func() { stop(); <-swept }()
	s.Ready()
	banner(out, listener.Addr(), catalog, len(opts.APIKeys) > 0)
	defer context.AfterFunc(ctx, func() {
		if n := s.Running(); n > 0 {
			logger.Info("finishing requests; interrupt again to stop now", "requests", n)
		}
	})()
	if err := <-served; err != nil {
		return err
	}
	logger.Info("stopped")
	return nil
}

// openSessions returns the store of the sessions in a data folder. Responses that the end of an earlier process cut off have
// failed by then.
func openSessions(ctx context.Context, catalog *engine.Catalog, data *dataFolder, flags *dataFlags, logger *slog.Logger) (*sessions.Store, error) {
	store := sessions.NewStore(catalog, data.database)
	opts := sessions.Options{
		Secret: data.secret, SessionTTL: time.Duration(flags.sessionTTL), ResponseTTL: time.Duration(flags.responseTTL), Logger: logger,
	}
	if data.cache != nil {
		opts.Forget = func(fingerprint, tenant string, tokens []int32, keep int) error {
			return engine.ForgetOnDisk(data.cache, fingerprint, tenant, tokens, keep)
		}
	}
	if err := store.Configure(opts); err != nil {
		return nil, err
	}
	return store, store.Recover(ctx)
}

// sweepPeriod is how long a session may outlive its time.
const sweepPeriod = time.Minute

// loadModels loads the models that the command line names, one after the other.
func loadModels(ctx context.Context, models []modelArg, catalog *engine.Catalog, opts engine.Options, logger *slog.Logger) error {
	for _, m := range models {
		if err := loadModel(ctx, catalog, m, opts, logger); err != nil {
			return err
		}
	}
	return nil
}

// loadModel loads one model, shows how far it is, and says so in the log when it is there.
func loadModel(ctx context.Context, catalog *engine.Catalog, m modelArg, opts engine.Options, logger *slog.Logger) error {
	progress := newLoadProgress(m.label(), logger)
	opts.Progress = progress.report
	start := time.Now()
	served, err := catalog.Load(ctx, m.path, m.id, opts)
	progress.end()
	if err != nil {
		return refusal(err)
	}
	limits, memory := served.Engine.Limits(), served.Engine.Memory()
	attributes := []any{"model", served.ID, "architecture", served.Architecture, "parameters", joined(formatCount(served.Parameters)),
		"format", served.Quantization, "context", served.Engine.ContextLength(), "sequences", limits.Spans,
		"weights", joined(formatBytes(uint64(served.WeightBytes))), "kv_cache_limit", joined(formatBytes(uint64(memory.Blocks)))}
	if limits.Slots > 0 {
		attributes = append(attributes, "states_limit", joined(formatBytes(uint64(memory.States))), "snapshots", limits.Snapshots)
	}
	logger.Info("model loaded", append(attributes, "took", time.Since(start).Round(time.Millisecond))...)
	if limits.Spans < opts.MaxSequences {
		logger.Warn("fewer sequences run at once than --parallel says: --cache-ram has no room for the state of more", "model", served.ID, "sequences", limits.Spans, "of", opts.MaxSequences)
	}
	if length := served.Engine.ContextLength(); opts.ContextLength == 0 && length < served.TrainedLength {
		logger.Warn("context is shorter than the model's: --cache-ram allows no more", "model", served.ID, "context", length, "of", served.TrainedLength)
	}
	return nil
}

// joined leaves the space out between a number and its unit, for which a log would need quotes.
func joined(quantity string) string { return strings.ReplaceAll(quantity, " ", "") }

// banner says where the server is and how to try it.
func banner(out io.Writer, addr net.Addr, catalog *engine.Catalog, key bool) {
	host := addr.String()
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		host = fmt.Sprintf("localhost:%d", tcp.Port)
	}
	models := catalog.List()
	names := make([]string, len(models))
	for i, m := range models {
		names[i] = m.ID
	}
	authorization, export := "", ""
	if key {
		export = "  export " + apiKeyVariable + "=…    # your key, in the shell of the client\n"
		authorization = ` \
    -H "Authorization: Bearer $` + apiKeyVariable + `"`
	}
	fmt.Fprintf(out, `
hearth %s serves %s at http://%s — try:

%s  curl -N http://%s/v1/chat/completions -H "Content-Type: application/json"%s \
    -d '{"model": %q, "stream": true, "max_tokens": %d, "messages": [{"role": "user", "content": "Once upon a time"}]}'

`, version, strings.Join(names, ", "), host, export, host, authorization, names[0], min(200, models[0].Engine.ContextLength()/2))
}
