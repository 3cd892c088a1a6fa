package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"hearth/engine"
	"hearth/engine/embedded"
	"hearth/hardware"
	"hearth/hardware/quant"
	"hearth/server"
)

// apiKeyVariable is the environment variable that holds an API key, which on the command line everyone on the machine
// could read.
const apiKeyVariable = "HEARTH_API_KEY"

// engineFlags are the flags of commands that run models.
type engineFlags struct {
	device         deviceFlags
	context        int
	parallel       int
	maxWaiting     int
	maxBatchTokens int
	kvType         string
	cacheRAM       byteCount
	draft          draftFlags
}

func (e *engineFlags) add(flags *pflag.FlagSet) {
	e.device.add(flags)
	flags.IntVar(&e.context, "ctx", 0, "most tokens of one sequence (default: the model's, as far as memory allows)")
	flags.IntVar(&e.parallel, "parallel", 0, "most sequences that run at once (default 32)")
	flags.IntVar(&e.maxWaiting, "max-queue", 0, "most requests that wait (default 512)")
	flags.IntVar(&e.maxBatchTokens, "max-batch-tokens", 0, "most tokens computed in one step (default: as measured)")
	flags.StringVar(&e.kvType, "kv-type", "", "format of the cache: f32, f16, bf16 or q8_0 (default: f32 for a float32 model; else q8_0 for keys and values of heads, f16 for latents)")
	flags.Var(&e.cacheRAM, "cache-ram", "memory for the cache of each model, such as 2GiB (default: from what is free)")
	e.draft.add(flags)
}

// draftFlags say how sequences are guessed on.
type draftFlags struct {
	speculate speculateFlag
	path      string
	most      draftCount
}

func (d *draftFlags) add(flags *pflag.FlagSet) {
	d.speculate = speculateFlag(engine.SpeculateAuto)
	flags.Var(&d.speculate, "speculate", "guess tokens and check several in one step where that is faster: "+
		strings.Join(engine.SpeculateNames(), ", ")+"; answers stay the same")
	flags.StringVar(&d.path, "draft", "", "smaller model that guesses tokens, of the same vocabulary and without recurrent state: file or folder")
	flags.Var(&d.most, "max-draft", fmt.Sprintf("most tokens guessed at once for a sequence, 1 to %d (default 16)", engine.MaxDraft))
}

// validate refuses a draft model that the choice of guesses would not use, and a number of guesses where there are none.
func (d *draftFlags) validate() error {
	choice := engine.Speculate(d.speculate)
	if d.most != 0 && choice == engine.SpeculateOff {
		return fmt.Errorf("--max-draft has no use: no tokens are guessed with --speculate %s", choice)
	}
	if d.path == "" || choice == engine.SpeculateAuto || choice == engine.SpeculateDraft {
		return nil
	}
	return fmt.Errorf("--draft: a draft model is not used with --speculate %s, but with %s or %s", choice, engine.SpeculateAuto, engine.SpeculateDraft)
}

// draftCount is a flag for the most guesses at once, 0 where the engine chooses.
type draftCount int

// String is part of pflag.Value.
func (c *draftCount) String() string {
	if *c == 0 {
		return ""
	}
	return strconv.Itoa(int(*c))
}

// Set is part of pflag.Value.
func (c *draftCount) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > engine.MaxDraft {
		return fmt.Errorf("want 1 to %d; --speculate off guesses none", engine.MaxDraft)
	}
	*c = draftCount(n)
	return nil
}

// Type is part of pflag.Value.
func (c *draftCount) Type() string { return "int" }

// speculateFlag is a flag for the choice of guesses.
type speculateFlag engine.Speculate

// String is part of pflag.Value.
func (s *speculateFlag) String() string { return engine.Speculate(*s).String() }

// Set is part of pflag.Value.
func (s *speculateFlag) Set(name string) error {
	choice, err := engine.ParseSpeculate(name)
	if err != nil {
		return fmt.Errorf("is none of %s", strings.Join(engine.SpeculateNames(), ", "))
	}
	*s = speculateFlag(choice)
	return nil
}

// Type is part of pflag.Value.
func (s *speculateFlag) Type() string { return "choice" }

// options returns the options of one of several models.
func (e *engineFlags) options(device hardware.Device, models []modelArg, logger *slog.Logger) (engine.Options, error) {
	if err := e.draft.validate(); err != nil {
		return engine.Options{}, err
	}
	var kv *quant.Format // nil: the engine chooses
	if e.kvType != "" {
		var err error
		if kv, err = streamFormat(device, e.kvType); err != nil {
			return engine.Options{}, err
		}
	}
	opts := engine.Options{
		Device: device, KV: kv, ContextLength: e.context, MaxSequences: e.parallel, MaxBatchTokens: e.maxBatchTokens,
		MaxWaiting: e.maxWaiting, KVBytes: int64(e.cacheRAM), Logger: logger,
		Speculate: engine.Speculate(e.draft.speculate), MaxDraft: int(e.draft.most), DraftPath: e.draft.path,
	}
	if opts.KVBytes == 0 {
		weights := uint64(0)
		for _, m := range models {
			weights += m.bytes()
		}
		machine := hardware.Probe("/")
		opts.KVBytes = int64(machine.KVBytes(weights)) / int64(len(models))
	}
	return opts, refusal(opts.Validate())
}

// streamFormat returns the format of a cache that the device keeps.
func streamFormat(device hardware.Device, name string) (*quant.Format, error) {
	formats := device.Info().StreamFormats
	f, ok := quant.ByName(name)
	if !ok || !slices.Contains(formats, f) {
		return nil, fmt.Errorf("--kv-type: %q is none of %s", name, formatNames(formats))
	}
	return f, nil
}

// formatNames lists formats as flags spell them.
func formatNames(formats []*quant.Format) string {
	names := make([]string, len(formats))
	for i, f := range formats {
		names[i] = strings.ToLower(f.Name)
	}
	return strings.Join(names, ", ")
}

// modelArg is a model as the command line names it.
type modelArg struct {
	id   string // empty: from the path
	path string // empty: the embedded model
}

// parseModels reads arguments of the form PATH or NAME=PATH; none means the embedded model.
func parseModels(args []string) ([]modelArg, error) {
	if len(args) == 0 {
		return []modelArg{{}}, nil
	}
	models := make([]modelArg, len(args))
	for i, arg := range args {
		models[i].path = arg
		if _, err := os.Stat(arg); err == nil {
			continue // a path that has an equals sign itself
		}
		if id, path, ok := strings.Cut(arg, "="); ok && id != "" {
			if path == "" {
				return nil, fmt.Errorf("model %q has no path after its name, want NAME=PATH", arg)
			}
			models[i] = modelArg{id, path}
		} else if arg == "" {
			return nil, errors.New("the path of a model is empty")
		}
	}
	return models, nil
}

// label names the model before it is loaded.
func (m modelArg) label() string {
	switch {
	case m.id != "":
		return m.id
	case m.path == "":
		return embedded.Name
	}
	return filepath.Base(m.path)
}

// bytes is about what the weights take: the size of the file, or of the files in the folder.
func (m modelArg) bytes() uint64 {
	if m.path == "" || m.path == embedded.Name {
		return uint64(len(embedded.Model))
	}
	sum := uint64(0)
	filepath.WalkDir(m.path, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil // what cannot be read is an error when the model is loaded
		}
		if info, err := entry.Info(); err == nil {
			sum += uint64(info.Size())
		}
		return nil
	})
	return sum
}

// serveFlags are the flags of the command serve.
type serveFlags struct {
	engine         engineFlags
	data           dataFlags
	addr           string
	apiKeys        []string
	tenantKeys     []string
	insecure       bool
	corsOrigins    []string
	allowedHosts   []string
	maxBody        byteCount
	drainTimeout   time.Duration
	requestTimeout time.Duration
	logLevel       string
	logFormat      string
}

func (s *serveFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&s.addr, "addr", "127.0.0.1:8080", "address to listen on; beyond this machine only with a key")
	flags.StringArrayVar(&s.apiKeys, "api-key", nil, "key that clients must send, may be repeated (better: the variable "+apiKeyVariable+")")
	flags.StringArrayVar(&s.tenantKeys, "tenant", nil, "NAME=KEY: a key whose holders have sessions and cached prefixes of their own; may be repeated")
	flags.BoolVar(&s.insecure, "insecure", false, "listen beyond this machine without a key")
	flags.StringArrayVar(&s.corsOrigins, "cors-origin", nil, "origin whose pages may use the server, or *; may be repeated")
	flags.StringArrayVar(&s.allowedHosts, "allowed-host", nil, "further name that clients may call the server by; may be repeated")
	flags.Var(&s.maxBody, "max-body", "largest request body (default 16MiB)")
	flags.DurationVar(&s.drainTimeout, "drain-timeout", 30*time.Second, "time for running requests when the server stops")
	flags.DurationVar(&s.requestTimeout, "request-timeout", time.Hour, "most time for one answer")
	flags.StringVar(&s.logLevel, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&s.logFormat, "log-format", "text", "text or json")
	s.data.add(flags)
	s.engine.add(flags)
}

// serverOptions returns the options of the server.
func (s *serveFlags) serverOptions(logger *slog.Logger) (server.Options, error) {
	opts := server.Options{
		Addr: s.addr, Insecure: s.insecure, AllowedHosts: s.allowedHosts, CORSOrigins: s.corsOrigins,
		MaxBodyBytes: int64(s.maxBody), DrainTimeout: s.drainTimeout, RequestTimeout: s.requestTimeout,
		Version: version, Logger: logger,
	}
	for _, key := range s.apiKeys {
		opts.APIKeys = append(opts.APIKeys, server.APIKey{Key: key})
	}
	if key := os.Getenv(apiKeyVariable); key != "" {
		opts.APIKeys = append(opts.APIKeys, server.APIKey{Key: key})
	}
	for _, pair := range s.tenantKeys {
		name, key, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return opts, errors.New("--tenant: want NAME=KEY")
		}
		opts.APIKeys = append(opts.APIKeys, server.APIKey{Tenant: name, Key: key})
	}
	if name, err := os.Hostname(); err == nil && !listensOnLoopback(s.addr) {
		opts.AllowedHosts = append(opts.AllowedHosts, name) // what others call this machine
	}
	if err := s.validateUnused(); err != nil {
		return opts, err
	}
	if s.drainTimeout == 0 {
		opts.DrainTimeout = time.Nanosecond // zero asks for no patience, not for the default
	}
	if err := s.data.validate(); err != nil {
		return opts, err
	}
	return opts, refusal(opts.Validate())
}

// validateUnused refuses flags that would have no effect beside others.
func (s *serveFlags) validateUnused() error {
	switch {
	case s.requestTimeout == 0:
		return errors.New("--request-timeout: 0 leaves no time for an answer")
	case s.insecure && len(s.apiKeys) > 0:
		return errors.New("--insecure has no use: clients need a key with --api-key")
	case s.insecure && len(s.tenantKeys) > 0:
		return errors.New("--insecure has no use: clients need a key with --tenant")
	case s.insecure && os.Getenv(apiKeyVariable) != "":
		return fmt.Errorf("--insecure has no use: clients need a key, which the variable %s has", apiKeyVariable)
	case s.insecure && listensOnLoopback(s.addr):
		return fmt.Errorf("--insecure has no use: this machine alone reaches --addr %s", s.addr)
	case len(s.corsOrigins) > 1 && slices.Contains(s.corsOrigins, "*"):
		return errors.New("--cors-origin has no use for an origin beside --cors-origin '*', which is all of them")
	}
	return nil
}

func listensOnLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && (host == "localhost" || net.ParseIP(host).IsLoopback())
}

// logger returns the logger that the flags ask for.
func (s *serveFlags) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.logLevel)); err != nil {
		return nil, fmt.Errorf("--log-level: %q is none of debug, info, warn and error", s.logLevel)
	}
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration { // JSON would have nanoseconds
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		return a
	}}
	switch s.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, fmt.Errorf("--log-format: %q is neither text nor json", s.logFormat)
}

// defaultDataDir is where data belongs by the XDG base directory specification, or beside other applications' settings
// where that is not used.
func defaultDataDir() string {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "hearth")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "hearth-data"
	}
	return filepath.Join(home, ".local", "share", "hearth")
}

// byteCount is a flag for sizes: 1048576, 512MiB, 2G.
type byteCount int64

var byteUnits = []struct {
	suffix string
	factor float64
}{
	{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30}, {"tib", 1 << 40},
	{"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"tb", 1e12},
	{"k", 1 << 10}, {"m", 1 << 20}, {"g", 1 << 30}, {"t", 1 << 40},
	{"b", 1}, {"", 1},
}

// String is part of pflag.Value.
func (b *byteCount) String() string {
	if *b == 0 {
		return ""
	}
	return formatBytes(uint64(*b))
}

// Set is part of pflag.Value.
func (b *byteCount) Set(s string) error {
	lower := strings.ToLower(strings.TrimSpace(s))
	for _, u := range byteUnits {
		number, ok := strings.CutSuffix(lower, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil {
			break
		}
		if n *= u.factor; !(n >= 1 && n < math.MaxInt64) {
			return errors.New("out of range")
		}
		*b = byteCount(n)
		return nil
	}
	return errors.New("want a number of bytes such as 512MiB or 2G")
}

// Type is part of pflag.Value.
func (b *byteCount) Type() string { return "size" }

// lifetime is a flag for how long something is kept: 12h, 90d, or off for ever.
type lifetime time.Duration

const (
	oneDay      = 24 * time.Hour
	maxLifetime = 100 * 365 * oneDay
)

// String is part of pflag.Value.
func (l *lifetime) String() string {
	switch d := time.Duration(*l); {
	case d == 0:
		return ""
	case d%oneDay == 0:
		return strconv.Itoa(int(d/oneDay)) + "d"
	default:
		return d.String()
	}
}

// Set is part of pflag.Value.
func (l *lifetime) Set(s string) error {
	if s == "off" {
		*l = 0
		return nil
	}
	d, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n int
		n, err = strconv.Atoi(days)
		d = time.Duration(min(max(n, 0), int(maxLifetime/oneDay)+1)) * oneDay
	}
	switch {
	case err != nil:
		return errors.New("want a time such as 12h or 90d, or off")
	case d < time.Second || d > maxLifetime:
		return fmt.Errorf("want 1s to %dd, or off", maxLifetime/oneDay)
	}
	*l = lifetime(d)
	return nil
}

// Type is part of pflag.Value.
func (l *lifetime) Type() string { return "time" }
