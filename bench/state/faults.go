package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	faultSessions  = 6 // asked before the disk fails, and as many others while it does
	faultTokens    = 1500
	faultDiskBytes = 64 << 20    // the cache's files are then of 4 MiB, a few sessions each
	warnsEvery     = time.Minute // at most, of a disk that fails and works by turns
)

// fault is a way in which the disk under the cache fails.
type fault struct {
	name  string
	mount bool // the cache gets a small disk of its own
	// metric tells that it happened, and goes back to 0 when the disk works again; or it counts what was lost for good.
	metric string
	counts bool
	// fail breaks the disk under a server, mend repairs it.
	fail, mend func(s *server, dir string) error
}

var faults = []fault{
	{"disk full", true, "hearth_disk_failing", false, fillDisk, freeDisk},
	{"disk read-only", true, "hearth_disk_failing", false, freeze, thaw},
	{"folder deleted", false, "hearth_disk_lost_total", true, func(_ *server, dir string) error { return os.RemoveAll(dir) }, func(*server, string) error { return nil }},
}

// showFaults breaks the disk under the cache in every way, while requests are answered as by a server without one.
func showFaults(ctx context.Context, r *run) error {
	m, err := r.synth(ctx, "qwen3", "tiny", 4096)
	if err != nil {
		return err
	}
	expected, err := r.withoutStore(ctx, m)
	if err != nil {
		return err
	}
	for i := range faults {
		if err := r.breakDisk(ctx, m, &faults[i], expected); err != nil {
			return fmt.Errorf("%s: %w", faults[i].name, err)
		}
	}
	return nil
}

// withoutStore returns the answers of a server that keeps nothing.
func (r *run) withoutStore(ctx context.Context, m model) ([]*answer, error) {
	s, err := r.startNew(ctx, m, "nothing", noStore)
	if err != nil {
		return nil, err
	}
	var answers []*answer
	for i := range 2 * faultSessions {
		a, err := s.chat(ctx, faultHistory(i), turnTokens, nil)
		if err != nil {
			return nil, err
		}
		answers = append(answers, a)
	}
	return answers, s.stop()
}

func faultHistory(session int) []message {
	return []message{{"user", prose(uint64(100+session), faultTokens)}}
}

// brokenDisk is a server whose disk is broken and mended.
type brokenDisk struct {
	*run
	*fault
	server   *server
	dir      string
	expected []*answer // of each session
}

func (r *run) breakDisk(ctx context.Context, m model, f *fault, expected []*answer) error {
	b := &brokenDisk{run: r, fault: f, expected: expected}
	if err := b.start(ctx, m); err != nil {
		return err
	}
	if err := b.before(ctx); err != nil {
		return fmt.Errorf("before the failure: %w", err)
	}
	if err := f.fail(b.server, b.dir); err != nil {
		return fmt.Errorf("the disk could not be broken: %w", err)
	}
	if err := b.meanwhile(ctx); err != nil {
		return fmt.Errorf("while the disk fails: %w", err)
	}
	if err := f.mend(b.server, b.dir); err != nil {
		return fmt.Errorf("the disk could not be mended: %w", err)
	}
	if err := b.afterwards(ctx); err != nil {
		return fmt.Errorf("after the disk was mended: %w", err)
	}
	return b.server.stop()
}

func (b *brokenDisk) start(ctx context.Context, m model) error {
	data, err := b.folder(strings.ReplaceAll(b.name, " ", "-"))
	if err != nil {
		return err
	}
	b.dir = data + "-cache"
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		return err
	}
	var wrapper []string
	if b.mount {
		wrapper = []string{"unshare", "--map-root-user", "--mount", "sh", "-c",
			fmt.Sprintf(`mount -t tmpfs -o size=%d tmpfs "$0" && exec "$@"`, faultDiskBytes), b.dir}
	}
	b.server, err = b.startIn(ctx, wrapper, m, data, "--cache-dir", b.dir, "--cache-disk", fmt.Sprint(faultDiskBytes), "--parallel", "1",
		"--cache-ram", fmt.Sprint(tinyBytesPerToken*m.length)) // RAM for two or three sessions: the others are on disk
	return err
}

// ask has sessions answered, and returns the median time to the first token and the share that was cached.
func (b *brokenDisk) ask(ctx context.Context, from, to int) (first time.Duration, share float64, err error) {
	var times []time.Duration
	cached, prompt := 0, 0
	for i := from; i < to; i++ {
		a, err := b.server.chat(ctx, faultHistory(i), turnTokens, nil)
		if err != nil {
			return 0, 0, err
		}
		if err := sameAnswer(a, b.expected[i]); err != nil {
			return 0, 0, fmt.Errorf("session %d: %w", i, err)
		}
		times = append(times, a.first)
		cached, prompt = cached+a.cached, prompt+a.prompt
	}
	return percentile(times, .5), float64(cached) / float64(prompt), nil
}

// askStored has sessions answered, and once more when all of them are on disk, which it measures.
func (b *brokenDisk) askStored(ctx context.Context, to int) (first time.Duration, share float64, err error) {
	if _, _, err := b.ask(ctx, 0, to); err != nil {
		return 0, 0, err
	}
	if err := b.server.settle(ctx); err != nil {
		return 0, 0, err
	}
	return b.ask(ctx, 0, to)
}

func (b *brokenDisk) before(ctx context.Context) error {
	healthy, share, err := b.askStored(ctx, faultSessions)
	if err != nil {
		return err
	}
	b.milliseconds(healthy, "%s: first token of known sessions before, p50", b.name)
	b.figure(100*share, "%", "%s: of their prompts cached before", b.name)
	b.requireTime(share > 0.9, "%s: only %.0f%% of the prompts came from the disk before it failed", b.name, 100*share)
	return nil
}

func (b *brokenDisk) meanwhile(ctx context.Context) error {
	begun := time.Now()
	failing, _, err := b.ask(ctx, faultSessions, 2*faultSessions)
	if err != nil {
		return err
	}
	if err := b.server.eventually(ctx, b.metric, func(n float64) bool { return n > 0 }); err != nil {
		return err
	}
	if _, _, err := b.ask(ctx, 0, 2*faultSessions); err != nil {
		return err
	}
	warnings, err := b.server.warnings()
	if err != nil {
		return err
	}
	b.milliseconds(failing, "%s: first token of new sessions meanwhile, p50", b.name)
	b.figure(float64(len(warnings)), "", "%s: warnings in the log", b.name)
	most := 1 + int(time.Since(begun)/warnsEvery)
	b.require(len(warnings) >= 1 && len(warnings) <= most, "%s: the log has %d warnings, want 1 to %d:\n%s", b.name, len(warnings), most, strings.Join(warnings, "\n"))
	return nil
}

func (b *brokenDisk) afterwards(ctx context.Context) error {
	if !b.counts {
		begun := time.Now()
		var failed error
		if err := b.server.eventually(ctx, b.metric, func(n float64) bool {
			_, _, failed = b.ask(ctx, faultSessions, 2*faultSessions) // which gives it something to write
			return n == 0 || failed != nil
		}); err != nil {
			return err
		}
		if failed != nil {
			return failed
		}
		b.milliseconds(time.Since(begun), "%s: until it is used again after it was mended", b.name)
	}
	_, share, err := b.askStored(ctx, 2*faultSessions)
	if err != nil {
		return err
	}
	b.figure(100*share, "%", "%s: of the prompts cached afterwards", b.name)
	b.requireTime(share > 0.9, "%s: only %.0f%% of the prompts came from the disk after it was mended", b.name, 100*share)
	return nil
}

// settle waits until all that was computed is on disk.
func (s *server) settle(ctx context.Context) error {
	for _, metric := range []string{"hearth_unsaved", "hearth_disk_queued"} {
		if err := s.eventually(ctx, metric, func(n float64) bool { return n == 0 }); err != nil {
			return err
		}
	}
	return nil
}

// eventually polls a metric.
func (s *server) eventually(ctx context.Context, metric string, holds func(float64) bool) error {
	value := 0.0
	for begun := time.Now(); time.Since(begun) < patience; {
		var err error
		if value, err = s.metric(ctx, metric); err != nil {
			return err
		}
		if holds(value) {
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s is still %v after %v", metric, value, patience)
}

// seen is where the server's mount namespace has a folder.
func seen(s *server, dir string) string {
	return filepath.Join("/proc", strconv.Itoa(s.pid()), "root", dir)
}

const filler = "filler"

// fillDisk leaves no room on the disk.
func fillDisk(s *server, dir string) error {
	file, err := os.Create(filepath.Join(seen(s, dir), filler))
	if err != nil {
		return err
	}
	defer file.Close()
	for _, size := range []int{1 << 20, 4096, 1} {
		for chunk := make([]byte, size); err == nil; {
			_, err = file.Write(chunk)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			return err
		}
		err = nil
	}
	return nil
}

func freeDisk(s *server, dir string) error { return os.Remove(filepath.Join(seen(s, dir), filler)) }

// freeze lays a read-only view of the folder over it. A server goes on writing the file that it has open, and can begin no
// further one.
func freeze(s *server, dir string) error {
	return s.inside("mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\"", dir)
}

func thaw(s *server, dir string) error { return s.inside("umount \"$0\"", dir) }

// inside runs a script of the shell in the namespaces of the server.
func (s *server) inside(script, dir string) error {
	out, err := exec.Command("nsenter", "--target", strconv.Itoa(s.pid()), "--user", "--preserve-credentials", "--mount",
		"sh", "-c", script, dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
