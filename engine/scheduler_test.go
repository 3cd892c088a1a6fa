package engine

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hearth/hardware"
	"hearth/kvcache"
)

// TestSchedulerScripts plays the stories of testdata/scheduler. A script is lines of commands; the lines after a
// command that begin with two spaces are what the scheduler chose:
//
//	new blocks=N sequences=N [outputs=N] [snapshots=N]   with snapshots: of a program with state
//	arrive NAME PROMPT [priority=N] [salt=N] [anchor=N] [scored]   PROMPT: text:length, joined by +; equal texts are
//	                     equal tokens
//	step BUDGET          each choice: NAME [from,to), and "draws" when the row gives a new token; before and after them
//	                     NAME loads|keeps POSITION, where a state is copied from or to a snapshot
//	guess NAME N [right=N]   the sequence has so many guesses for the next step; those that it checks come as "+N"
//	finish NAME          the sequence ended, or its caller left; the state that is kept of it
//	state                who runs, who waits, blocks in use, kept for others, and free
//
// Blocks are of 64 positions.
func TestSchedulerScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/scheduler/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			script, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			playScript(t, string(script))
		})
	}
}

func playScript(t *testing.T, script string) {
	play := &play{t: t, sequences: map[string]*sequence{}}
	lines := strings.Split(script, "\n")
	for i := 0; i < len(lines); {
		command, number := lines[i], i+1
		i++
		if command == "" || strings.HasPrefix(command, "#") {
			continue
		}
		var want []string
		for ; i < len(lines) && strings.HasPrefix(lines[i], "  "); i++ {
			want = append(want, strings.TrimSpace(lines[i]))
		}
		got := play.command(command)
		if !slices.Equal(got, want) {
			t.Errorf("line %d: %s\ngot:\n  %s\nwant:\n  %s", number, command, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
		play.check(number)
	}
}

// play is a scheduler with a fake memory and named sequences.
type play struct {
	t         *testing.T
	scheduler *scheduler
	memory    *fakeMemory
	states    *fakeStates
	sequences map[string]*sequence
	arrivals  uint64
	right     int // of the guesses of a step
}

func newPlay(t *testing.T, options kvcache.Options, outputs int) *play {
	t.Helper()
	options.BlockLen = hardware.BlockLen
	cache, err := kvcache.New(options)
	if err != nil {
		t.Fatal(err)
	}
	return &play{
		t: t, scheduler: newScheduler(cache, options.MaxSequences, outputs, 1000), memory: newFakeMemory(options.Blocks),
		states: newFakeStates(options.Slots, options.Snapshots), sequences: map[string]*sequence{},
	}
}

func (p *play) command(line string) []string {
	fields := strings.Fields(line)
	options := map[string]int{}
	for _, f := range fields[1:] {
		name, value, _ := strings.Cut(f, "=")
		options[name], _ = strconv.Atoi(value)
	}
	switch fields[0] {
	case "new":
		cache := kvcache.Options{Blocks: options["blocks"], MaxSequences: options["sequences"]}
		if snapshots, ok := options["snapshots"]; ok {
			cache.Slots, cache.Snapshots = cache.MaxSequences, snapshots
		}
		*p = *newPlay(p.t, cache, max(options["outputs"], options["sequences"]))
	case "arrive":
		_, scored := options["scored"]
		p.arrive(fields[1], p.prompt(fields[2]), options["priority"], uint64(options["salt"]), scored).anchor = options["anchor"]
	case "step":
		budget, err := strconv.Atoi(fields[1])
		if err != nil {
			p.t.Fatal(err)
		}
		return p.step(budget)
	case "guess":
		n, err := strconv.Atoi(fields[2])
		if err != nil {
			p.t.Fatal(err)
		}
		p.sequences[fields[1]].lane.Draft = slices.Repeat([]int32{5}, n)
		p.right = options["right"]
	case "finish":
		p.scheduler.remove(p.sequences[fields[1]])
		delete(p.sequences, fields[1])
		return p.move()
	case "state":
		s := p.scheduler.cache.Stats()
		return []string{
			"running: " + names(p.scheduler.running), "waiting: " + names(p.scheduler.waiting),
			fmt.Sprintf("blocks: %d used, %d kept, %d free", s.Referenced, s.Idle, s.Free),
		}
	default:
		p.t.Fatalf("unknown command %q", line)
	}
	return nil
}

func names(list []*sequence) string {
	var all []string
	for _, seq := range list {
		all = append(all, seq.id)
	}
	if all == nil {
		return "nobody"
	}
	return strings.Join(all, " ")
}

// prompt reads "system:64+alice:10".
func (p *play) prompt(parts string) (tokens []int32) {
	for part := range strings.SplitSeq(parts, "+") {
		text, length, _ := strings.Cut(part, ":")
		n, err := strconv.Atoi(length)
		if err != nil {
			p.t.Fatal(err)
		}
		h := uint64(0)
		for _, c := range text {
			h = fakeHash(h, c)
		}
		tokens = append(tokens, words(h, n)...)
	}
	return tokens
}

func (p *play) arrive(name string, prompt []int32, priority int, salt uint64, scored bool) *sequence {
	p.arrivals++
	seq := &sequence{
		id: name, arrival: p.arrivals, priority: priority, salt: salt, scored: scored,
		tokens: prompt, promptLen: len(prompt), maxTokens: math.MaxInt,
	}
	p.sequences[name] = seq
	p.scheduler.add(seq)
	return seq
}

// move copies states as the scheduler decided.
func (p *play) move() (moves []string) {
	p.states.do(p.scheduler.moves)
	for _, m := range p.scheduler.moves {
		verb := "keeps"
		if m.load {
			verb = "loads"
		}
		moves = append(moves, fmt.Sprintf("%s %s %d", m.seq.id, verb, m.position))
	}
	p.scheduler.moved()
	return moves
}

// step chooses, computes and draws. What is drawn depends on the tokens before, as in a model.
func (p *play) step(budget int) (choices []string) {
	items := p.scheduler.next(budget)
	choices = p.move()
	decodes, prompts, outputs := 0, 0, 0
	for _, it := range items {
		seq := it.seq
		choice := fmt.Sprintf("%s [%d,%d)", seq.id, seq.computed, seq.computed+it.rows)
		if it.drafts > 0 {
			choice += fmt.Sprintf("+%d", it.drafts)
		}
		if it.reaches() {
			choice += " draws"
		}
		choices = append(choices, choice)
		outputs += it.outputs()
		if it.rows == 1 {
			decodes++
		} else {
			prompts += it.rows
		}
		prompts += it.drafts
		table := seq.table.Blocks()
		if err := p.memory.verify(table, seq.tokens[:seq.computed]); err != nil {
			p.t.Fatalf("%s: %v", seq.id, err)
		}
		p.memory.write(table, seq.tokens[seq.computed:seq.computed+it.rows], seq.computed)
		p.memory.write(table, seq.lane.Draft[:it.drafts], seq.computed+it.rows)
		if p.scheduler.stateful {
			p.states.write(seq.table.Slot(), seq.computed, seq.tokens[seq.computed:seq.computed+it.rows], nil)
		}
	}
	if len(items) > p.scheduler.maxSequences || outputs > p.scheduler.maxOutputs || prompts+decodes > max(budget, decodes+minChunk) {
		p.t.Fatalf("step of %d sequences, %d outputs, %d+%d rows with a budget of %d", len(items), outputs, decodes, prompts, budget)
	}
	for _, it := range items {
		reaches := it.reaches()
		if it.seq.scoring() {
			it.seq.scoredUpTo = min(it.seq.computed+it.rows, it.seq.promptLen-1)
		}
		right := min(p.right, it.drafts)
		it.seq.tokens = append(it.seq.tokens, it.seq.lane.Draft[:right]...)
		p.scheduler.done(it, right)
		if reaches {
			it.seq.lane.Draft = it.seq.lane.Draft[:0]
			attended := p.memory.attend(it.seq.table.Blocks(), len(it.seq.tokens))
			it.seq.tokens = append(it.seq.tokens, int32(4+attended%(fakeVocab-4)))
		}
	}
	return append(choices, p.move()...)
}

// check verifies the invariants of scheduler and cache.
func (p *play) check(line int) {
	p.t.Helper()
	s := p.scheduler
	if err := s.cache.Check(); err != nil {
		p.t.Fatalf("line %d: %v", line, err)
	}
	for _, list := range [][]*sequence{s.running, s.waiting} {
		for i := 1; i < len(list); i++ {
			if !list[i-1].before(list[i]) {
				p.t.Fatalf("line %d: %s comes before %s", line, list[i-1].id, list[i].id)
			}
		}
	}
	for _, seq := range s.running {
		if slices.Contains(s.waiting, seq) || seq.table == nil || seq.table.Len() < blocksFor(seq.computed) || seq.pending() < 1 {
			p.t.Fatalf("line %d: %s runs with %d of %d tokens computed, in blocks %v", line, seq.id, seq.computed, len(seq.tokens), seq.table)
		}
		if err := p.memory.verify(seq.table.Blocks(), seq.tokens[:seq.computed]); err != nil {
			p.t.Fatalf("line %d: %s: %v", line, seq.id, err)
		}
		if s.stateful && seq.computed > 0 {
			if err := p.states.verify(seq.table.Slot(), seq.tokens[:seq.computed]); err != nil {
				p.t.Fatalf("line %d: %s: %v", line, seq.id, err)
			}
		}
	}
	for _, seq := range s.waiting {
		if seq.table != nil || seq.computed != 0 {
			p.t.Fatalf("line %d: %s waits with %d tokens computed", line, seq.id, seq.computed)
		}
	}
	if len(s.tables)+len(s.running) != s.maxSequences {
		p.t.Fatalf("line %d: %d tables are left of %d, %d sequences run", line, len(s.tables), s.maxSequences, len(s.running))
	}
}

// TestSchedulerNeverStops plays random requests: of few texts, so that prefixes meet; in few blocks, so that they run
// out; with priorities, salts, scores and callers that leave. After every step all invariants hold and every table
// leads to the right tokens; every step computes something; and everybody is served in the end, with the same tokens
// as alone.
func TestSchedulerNeverStops(t *testing.T) {
	seeds := uint64(30)
	if testing.Short() {
		seeds = 3
	}
	preemptions, loaded := uint64(0), uint64(0)
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 2))
			options := kvcache.Options{Blocks: 4 + rng.IntN(12), MaxSequences: 1 + rng.IntN(8)}
			if seed%2 == 1 {
				options.Slots, options.Snapshots = options.MaxSequences, rng.IntN(10)
			}
			p := newPlay(t, options, 8+rng.IntN(20))
			budget := 1 + rng.IntN(200)
			longest := len(p.memory.entries) * hardware.BlockLen
			wanted := map[string]int{} // tokens to generate
			arrived := 0
			for step := 0; arrived < 40 || !p.scheduler.idle(); step++ {
				if step > 200_000 {
					t.Fatalf("after %d steps there still run %s and wait %s", step, names(p.scheduler.running), names(p.scheduler.waiting))
				}
				for arrived < 40 && rng.IntN(3) == 0 {
					arrived++
					name := strconv.Itoa(arrived)
					shared := rng.IntN(min(longest, 400))
					tokens := append(words(rng.Uint64N(3), shared), words(rng.Uint64(), 1+rng.IntN(60))...)
					wanted[name] = 1 + rng.IntN(longest/2)
					tokens = tokens[:min(len(tokens), longest-wanted[name])]
					p.arrive(name, tokens, rng.IntN(2), rng.Uint64N(2), rng.IntN(5) == 0)
				}
				if p.scheduler.idle() {
					continue
				}
				if choices := p.step(budget); len(choices) == 0 {
					t.Fatalf("step %d chose nothing; running %s, waiting %s", step, names(p.scheduler.running), names(p.scheduler.waiting))
				}
				p.check(step)
				for _, name := range slices.Sorted(maps.Keys(p.sequences)) {
					seq := p.sequences[name]
					if seq.generated() >= wanted[name] {
						verifyAlone(t, seq)
					} else if rng.IntN(2000) != 0 { // else its caller leaves
						continue
					}
					p.scheduler.remove(seq)
					delete(p.sequences, name)
				}
				p.move()
				p.check(step)
			}
			if s := p.scheduler.cache.Stats(); s.Referenced != 0 {
				t.Errorf("blocks leaked: %+v", s)
			}
			preemptions += p.scheduler.preemptions
			loaded += p.scheduler.cache.Stats().Loaded
		})
	}
	if preemptions < 3*seeds || loaded < 2*seeds {
		t.Errorf("only %d preemptions and %d loaded states: the test tests too little", preemptions, loaded)
	}
}

// verifyAlone checks a sequence's generated tokens against a memory of its own.
func verifyAlone(t *testing.T, seq *sequence) {
	t.Helper()
	table := make([]int32, blocksFor(len(seq.tokens)))
	for i := range table {
		table[i] = int32(i)
	}
	memory := newFakeMemory(len(table))
	memory.write(table, seq.tokens, 0)
	for n := seq.promptLen; n < len(seq.tokens); n++ {
		if want := int32(4 + memory.attend(table, n)%(fakeVocab-4)); seq.tokens[n] != want {
			t.Fatalf("%s: token %d is %d, alone it is %d; preempted %d times", seq.id, n, seq.tokens[n], want, seq.preempted)
		}
	}
}

func TestSchedulerAllocatesNothing(t *testing.T) {
	for _, slots := range []int{0, 8} {
		allocatesNothing(t, kvcache.Options{Blocks: 40, MaxSequences: 8, Slots: slots, Snapshots: slots / 2})
	}
}

func allocatesNothing(t *testing.T, options kvcache.Options) {
	t.Helper()
	p := newPlay(t, options, 16)
	for i := range 8 {
		seq := p.arrive(strconv.Itoa(i), words(uint64(i), 30), 0, 0, false)
		seq.tokens = append(make([]int32, 0, 1000), seq.tokens...)
	}
	allocs := testing.AllocsPerRun(100, func() {
		for _, it := range p.scheduler.next(64) {
			reaches := it.reaches()
			p.scheduler.done(it, 0)
			if reaches {
				it.seq.tokens = append(it.seq.tokens, 5)
			}
		}
		p.scheduler.moved()
	})
	if allocs != 0 {
		t.Errorf("%v allocations per step with %+v, want 0", allocs, options)
	}
}
