// Command state shows what the stateful runtime promises on the real binary: it starts servers, kills them, breaks their
// disks, and compares what they answer afterwards with runs that nothing happened to. Every figure that it prints is
// measured in the run; a promise that is not kept is an exit status of 1.
//
// It knows the server only by its commands and its HTTP interface, and imports nothing of it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	hearth string // the binary
	work   string // folder for models, data folders and logs
	keep   bool
	report string // JSON file
	points []int
	short  bool // counts of every commit
	counts counts
}

// counts are how much of each thing is done.
type counts struct {
	tokens        int    // of the session that is resumed and forked
	size          string // of the qwen3 that speed is measured on; empty: none
	architectures []string
	forks         int
	sessions      int // idle ones
	sessionTokens int
	resumes       int
	kills         int
	clients       int
}

// fullCounts are those of the claims, shortCounts those of every commit.
var (
	fullCounts = counts{
		tokens: 8000, size: "0.6b", architectures: statefulArchitectures, forks: 16,
		sessions: 1000, sessionTokens: 2000, resumes: 10000, kills: 200, clients: 8,
	}
	shortCounts = counts{
		tokens: 8000, architectures: []string{"qwen35"}, forks: 16,
		sessions: 40, sessionTokens: 2000, resumes: 300, kills: 20, clients: 8,
	}
)

// statefulArchitectures are those that remember more of a sequence than the keys and values of every layer.
var statefulArchitectures = []string{"qwen35", "qwen35moe", "qwen3next", "minimax-m3", "deepseek2", "deepseek32", "deepseek4"}

// point is one thing to show.
type point struct {
	number int
	name   string
	show   func(context.Context, *run) error
}

// points are what is shown, in order.
var points = []point{
	{1, "a session goes on after kill -9", showResume},
	{2, "forks share the session's memory", showForks},
	{3, "idle sessions wait on disk", showIdle},
	{4, "nothing acknowledged is lost in a loop of crashes", showCrashes},
	{5, "requests go on when the disk fails", showFaults},
	{6, "a session moves to another server", showTransfer},
}

func main() {
	opts, err := parseFlags(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err = showAll(ctx, opts)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "state:", err)
		os.Exit(1)
	}
}

func parseFlags(args []string) (*options, error) {
	o := &options{counts: fullCounts}
	if o.short = slices.Contains(args, "-short") || slices.Contains(args, "--short"); o.short {
		o.counts = shortCounts
	}
	flags := flag.NewFlagSet("state", flag.ContinueOnError)
	c := &o.counts
	flags.StringVar(&o.hearth, "hearth", "bin/hearth", "the binary to show")
	flags.StringVar(&o.work, "work", "", "folder for models, data and logs (default: a new one, removed in the end)")
	flags.BoolVar(&o.keep, "keep", false, "keep the folder")
	flags.StringVar(&o.report, "json", "", "file for the figures")
	flags.Bool("short", false, "counts for every commit, which the flags behind it change; times are printed and not required")
	flags.IntVar(&c.tokens, "tokens", c.tokens, "tokens of the session of points 1, 2 and 6")
	flags.StringVar(&c.size, "size", c.size, "size of the qwen3 whose speed points 1 and 2 measure; empty: none")
	architectures := flags.String("arch", strings.Join(c.architectures, ","), "further architectures of points 1 and 2, tiny ones")
	flags.IntVar(&c.forks, "forks", c.forks, "forks of point 2")
	flags.IntVar(&c.sessions, "sessions", c.sessions, "idle sessions of point 3")
	flags.IntVar(&c.sessionTokens, "session-tokens", c.sessionTokens, "tokens of each of them")
	flags.IntVar(&c.resumes, "resumes", c.resumes, "how often one of them is resumed")
	flags.IntVar(&c.kills, "kills", c.kills, "crashes of point 4")
	flags.IntVar(&c.clients, "clients", c.clients, "clients that ask meanwhile")
	numbers := flags.String("points", "", "numbers of the points to show, such as 1,4 (default: all)")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if c.architectures = nil; *architectures != "" {
		c.architectures = strings.Split(*architectures, ",")
	}
	for _, p := range points {
		o.points = append(o.points, p.number)
	}
	if *numbers == "" {
		return o, nil
	}
	o.points = nil
	for text := range strings.SplitSeq(*numbers, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || !slices.ContainsFunc(points, func(p point) bool { return p.number == n }) {
			return nil, fmt.Errorf("-points: %q is no number of a point", text)
		}
		o.points = append(o.points, n)
	}
	return o, nil
}

// showAll shows the chosen points one after the other. A point that fails does not keep the next ones from being shown.
func showAll(ctx context.Context, o *options) (err error) {
	if o.hearth, err = filepath.Abs(o.hearth); err != nil {
		return err
	}
	if _, err := os.Stat(o.hearth); err != nil {
		return fmt.Errorf("-hearth: %w", err)
	}
	if o.work == "" {
		if o.work, err = os.MkdirTemp("", "hearth-state-"); err != nil {
			return err
		}
		if !o.keep {
			defer func() {
				if err == nil {
					err = os.RemoveAll(o.work)
				} else {
					fmt.Fprintln(os.Stderr, "state: logs are in", o.work)
				}
			}()
		}
	} else if err := os.MkdirAll(o.work, 0o700); err != nil {
		return err
	}
	var reports []*pointReport
	failed := 0
	for _, p := range points {
		if !slices.Contains(o.points, p.number) {
			continue
		}
		r := &run{opts: o, report: &pointReport{Point: p.number, Name: p.name}}
		fmt.Printf("%d. %s\n", p.number, p.name)
		start := time.Now()
		err := p.show(ctx, r)
		r.stopAll()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r.report.Failures = append(r.report.Failures, err.Error())
		}
		r.report.Seconds = time.Since(start).Seconds()
		for _, failure := range r.report.Failures {
			fmt.Printf("   FAILED: %s\n", failure)
		}
		fmt.Printf("   %s after %.1f s\n\n", map[bool]string{true: "shown", false: "not shown"}[len(r.report.Failures) == 0], r.report.Seconds)
		failed += min(len(r.report.Failures), 1)
		reports = append(reports, r.report)
	}
	if o.report != "" {
		if err := writeJSON(o.report, reports); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d points could not be shown", failed, len(reports))
	}
	return nil
}

func writeJSON(path string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
