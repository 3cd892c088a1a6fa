package engine

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"hearth/engine/api"
	"hearth/engine/model"
	"hearth/engine/sample"
	"hearth/hardware"
	"hearth/kvcache"
)

// loop is everything that one goroutine owns while a model runs. After New nothing in it allocates, but at the end of a
// request, and for one that asks for log-probabilities.
//
// Invariants:
//  1. Every sequence that Submit sent is closed exactly once: its channel gets one Done event, then it is closed.
//  2. When a Done event is sent, the sequence has left the scheduler, and the counters say so.
type loop struct {
	model       *model.Model
	queue       hardware.Queue
	limits      hardware.Limits
	cacheOpts   kvcache.Options
	scheduler   *scheduler
	speculation *speculation // nil: no guesses
	tier        *tier
	batch       *hardware.Batch
	scratch     *sample.Scratch
	pace        pace
	stops       []int32 // ids that end a generation
	ends        []int32 // of these, the ones that IgnoreEOS bans
	banned      []int32 // ids that are never drawn
	stats       *counters
	log         *slog.Logger
	now         func() time.Time // measures steps, requests and reads

	finished []*sequence // ended in this step, not yet closed
}

// step chooses, runs and samples once; it returns false when there was nothing to do, or nothing before the disk answers.
func (l *loop) step() bool {
	l.dropCancelled()
	l.receive()
	if l.scheduler.idle() {
		return l.save() > 0
	}
	l.hold(l.now())
	l.pace.brief = len(l.scheduler.restores) > 0
	items := l.scheduler.next(l.pace.budget(l.limits.Tokens))
	l.moveStates()
	l.request()
	l.prefetch()
	if len(items) == 0 { // all that runs waits for the disk
		return l.save() > 0
	}
	l.fill(items)
	start := l.now()
	for _, it := range items {
		if it.seq.startedAt.IsZero() {
			it.seq.startedAt = start
		}
	}
	l.queue.Run(l.model.Trunk, l.batch)
	if err := l.queue.Sync(); err != nil {
		l.log.Error("device failed", "error", err)
		l.failAll(fmt.Errorf("%w: %w", api.ErrInternal, err))
		return true
	}
	end := l.now()
	done := l.finish(items, end)
	l.pace.observe(done, end.Sub(start))
	l.stats.steps.Add(1)
	l.stats.rows.Add(uint64(done.decodes + done.prompts + done.drafts))
	if l.speculation != nil {
		if done.prompts == 0 {
			l.speculation.control.Took(done.decodes+done.drafts, l.now().Sub(start))
		}
		if err := l.speculation.guess(l.scheduler, items); err != nil {
			l.log.Error("drafting failed", "error", err)
			l.failAll(fmt.Errorf("%w: %w", api.ErrInternal, err))
			return true
		}
	}
	l.closeFinished(end)
	l.save()
	return true
}

// fill writes the batch of a step.
func (l *loop) fill(items []stepItem) {
	b := l.batch
	b.Reset()
	for _, it := range items {
		seq := it.seq
		row := int32(len(b.Tokens))
		b.Spans = append(b.Spans, hardware.Span{
			Row: row, Len: int32(it.rows + it.drafts), Start: int32(seq.computed), Table: int32(len(b.Tables)),
			Slot: int32(seq.table.Slot()), Draft: int32(it.drafts),
		})
		b.Tokens = append(b.Tokens, seq.tokens[seq.computed:seq.computed+it.rows]...)
		b.Tokens = append(b.Tokens, seq.lane.Draft[:it.drafts]...)
		b.Tables = append(b.Tables, seq.table.Blocks()...)
		for i := it.rows + it.drafts - it.outputs(); i < it.rows+it.drafts; i++ {
			b.Outputs = append(b.Outputs, row+int32(i))
		}
	}
}

// stepRows is how many rows of each kind a step had.
type stepRows struct {
	decodes, prompts, drafts int
	position                 float64 // sum of the prompt rows' positions
}

// finish draws tokens for every sequence that the step brought to its end, and reports how many rows of each kind there
// were.
func (l *loop) finish(items []stepItem, now time.Time) (done stepRows) {
	output := 0
	for i, it := range items {
		seq, outputs := it.seq, it.outputs() // before scores are known, which need them no more
		if seq.generated() > 0 && it.rows == 1 {
			done.decodes++
		} else {
			done.prompts += it.rows
			done.position += float64(it.rows) * (float64(seq.computed) + float64(it.rows)/2)
		}
		if seq.scoring() && seq.computed < seq.promptLen {
			l.scorePrompt(it, output)
		}
		done.drafts += it.drafts
		output += outputs
		right := 0
		if it.reaches() && seq.ended == nil {
			right = l.drawAll(it, output-1-it.drafts, now)
		}
		items[i].right = right
		l.scheduler.done(it, right)
	}
	return done
}

// drawAll samples the next token of a sequence, and those after it while what was drawn is what was guessed: then the next
// row is the one of the tokens drawn. It returns how many guesses were right. A grammar would be asked and advanced by
// each draw, as what bans tokens is.
func (l *loop) drawAll(it stepItem, output int, now time.Time) (right int) {
	seq := it.seq
	for ; ; right++ {
		known := len(seq.tokens)
		l.draw(seq, output+right, now)
		if right == it.drafts || len(seq.tokens) == known || seq.tokens[known] != seq.lane.Draft[right] {
			break
		}
		if seq.ended != nil {
			right++
			break
		}
	}
	if it.drafts > 0 {
		l.speculation.checked(seq, it.drafts, right)
	}
	return right
}

// draw samples the next token of a sequence from an output of this step and decides whether it was the last.
func (l *loop) draw(seq *sequence, output int, now time.Time) {
	if seq.maxTokens == 0 { // the prompt alone was asked for
		l.end(seq, api.FinishLength, nil)
		seq.ended.Values = l.values(seq, output)
		return
	}
	token, logprob, err := l.next(seq, l.row(output))
	if err != nil {
		l.end(seq, api.FinishError, fmt.Errorf("%w: %w", api.ErrInternal, err))
		return
	}
	seq.tokens = append(seq.tokens, token)
	if seq.generated() == 1 {
		seq.firstAt = now
	}
	if !seq.ignoreEOS && slices.Contains(l.stops, token) {
		l.end(seq, api.FinishStop, nil)
		return
	}
	if !seq.send(api.Event{Token: token, Logprob: logprob}) {
		l.end(seq, api.FinishError, api.ErrSlowReader)
		return
	}
	if seq.generated() >= seq.maxTokens {
		l.end(seq, api.FinishLength, nil)
	}
}

// next draws a token, and says how probable the model found it where that was asked for.
func (l *loop) next(seq *sequence, row *sample.Row) (token int32, logprob *api.Logprob, err error) {
	if seq.logprobs >= 0 {
		logprob = &api.Logprob{}
		if err := row.Top(seq.logprobs, logprob); err != nil { // before logits are changed
			return 0, nil, err
		}
	}
	l.ban(seq, row, seq.generated())
	if token, err = seq.sampler.Next(row, seq.tokens); err != nil {
		return 0, nil, err
	}
	if logprob != nil {
		logprob.Token, logprob.Logprob = token, row.Logprob(token)
	}
	return token, logprob, nil
}

// ban makes tokens impossible that may not be drawn after so many generated ones.
func (l *loop) ban(seq *sequence, row *sample.Row, generated int) {
	row.Ban(l.banned)
	if seq.ignoreEOS {
		row.Ban(l.ends)
	} else if generated < seq.minTokens {
		row.Ban(l.stops)
	}
}

// values returns what a sequence asks for beside tokens, of the output of its last token.
func (l *loop) values(seq *sequence, output int) []float32 {
	if seq.pooled {
		return slices.Clone(l.queue.Output(l.model.Pooled, output))
	}
	if seq.logitsOf == nil {
		return nil
	}
	logits, values := l.queue.Output(l.model.Logits, output), make([]float32, len(seq.logitsOf))
	for i, token := range seq.logitsOf {
		values[i] = logits[token]
	}
	return values
}

// row returns the logits of an output of this step, ready to draw from until the next call.
func (l *loop) row(output int) *sample.Row {
	return l.scratch.Row(l.queue.Output(l.model.Logits, output), l.queue.Output(l.model.Parts, output))
}

// scorePrompt keeps the log-probabilities of the prompt tokens that follow the rows of this step, and sends all of them
// when the last one is known. Row i of a step gives the distribution of the token at position start+i+1.
func (l *loop) scorePrompt(it stepItem, firstOutput int) {
	seq := it.seq
	for i := range it.rows {
		next := seq.computed + i + 1
		if next >= seq.promptLen || next <= seq.scoredUpTo {
			continue // not of the prompt, or known from before a preemption
		}
		var p api.Logprob
		row := l.row(firstOutput + i)
		if err := row.Top(seq.logprobs, &p); err != nil {
			l.end(seq, api.FinishError, fmt.Errorf("%w: position %d: %w", api.ErrInternal, next, err))
			return
		}
		p.Token, p.Logprob = seq.tokens[next], row.Logprob(seq.tokens[next])
		seq.scores = append(seq.scores, p)
		seq.scoredUpTo = next
	}
	if !seq.scoring() && seq.scores != nil {
		seq.events <- api.Event{Prompt: seq.scores} // the first event, for which there is room
		seq.scores = nil
	}
}

// end decides how a sequence ends. It is closed at the end of the step.
func (l *loop) end(seq *sequence, reason api.FinishReason, err error) {
	seq.ended = &api.Done{Reason: reason, Err: err}
	l.finished = append(l.finished, seq)
}

// closeFinished takes the sequences that ended out of the scheduler, and then tells their readers.
func (l *loop) closeFinished(now time.Time) {
	for _, seq := range l.finished {
		l.scheduler.remove(seq)
	}
	l.publish()
	for _, seq := range l.finished {
		l.close(seq, now)
	}
	clear(l.finished) // their tokens are not kept until others end
	l.finished = l.finished[:0]
	l.moveStates()
}

// moveStates copies states between slots and snapshots as the scheduler decided. After a step that is when the readers
// have been told.
func (l *loop) moveStates() {
	for _, m := range l.scheduler.moves {
		if m.load {
			l.queue.LoadState(m.slot, m.position, m.snapshot)
			l.stats.statesLoaded.Add(1)
		} else {
			l.queue.SaveState(m.slot, m.position, m.snapshot)
			l.stats.statesSaved.Add(1)
		}
	}
	l.scheduler.moved()
}

// close sends the last event of a sequence that has ended.
func (l *loop) close(seq *sequence, now time.Time) {
	if seq.closed {
		return
	}
	seq.closed = true
	done := seq.ended
	done.Usage = api.Usage{
		PromptTokens: seq.promptLen, CachedTokens: seq.cached, RestoredTokens: seq.restored,
		WrittenTokens:   max(0, wholeBlocks(min(seq.reached, seq.promptLen))-seq.cached),
		GeneratedTokens: seq.generated(),
		DraftedTokens:   seq.lane.Drafted, AcceptedTokens: seq.lane.Accepted,
	}
	started, first := seq.startedAt, seq.firstAt
	if started.IsZero() {
		started = now
	}
	if first.IsZero() {
		first = now
	}
	done.Timing = api.Timing{Queued: started.Sub(seq.submittedAt), Prefill: first.Sub(started), Decode: now.Sub(first)}
	seq.stopWatch()
	l.stats.finished(done)
	seq.events <- api.Event{Done: done} // send keeps a place for it
	close(seq.events)
}

// dropCancelled ends the sequences whose callers are gone or have enough.
func (l *loop) dropCancelled() {
	for _, list := range [][]*sequence{l.scheduler.running, l.scheduler.waiting} {
		for _, seq := range list {
			if !seq.cancelled.Load() {
				continue
			}
			reason := api.FinishCancelled
			if seq.enough {
				reason = api.FinishStop
			}
			l.end(seq, reason, nil)
		}
	}
	if len(l.finished) > 0 {
		l.closeFinished(l.now())
	}
}

// failAll ends every sequence with an error and forgets the cache, whose contents cannot be trusted after a failure.
func (l *loop) failAll(err error) {
	all := slices.Concat(l.finished, l.scheduler.running, l.scheduler.waiting)
	l.finished = l.finished[:0]
	l.reset()
	l.publish()
	now := l.now()
	for _, seq := range all {
		if seq.ended == nil {
			seq.ended = &api.Done{Reason: api.FinishError, Err: err}
		}
		l.close(seq, now)
	}
}

// reset begins anew with an empty cache.
func (l *loop) reset() {
	cache, err := kvcache.New(l.cacheOpts)
	if err != nil {
		panic(err) // the options worked before
	}
	old := l.scheduler
	for len(old.restores) > 0 {
		old.endRestore(old.restores[0].seq)
	}
	l.dropEnded()
	l.scheduler = newScheduler(cache, l.limits.Spans, l.limits.Outputs, cap(old.waiting)-old.maxSequences)
	l.scheduler.preemptions, l.scheduler.onDisk, l.scheduler.has = old.preemptions, old.onDisk, old.has
}

// guardedStep is step, with a panic turned into the failure of the running requests.
func (l *loop) guardedStep() (worked bool) {
	defer func() {
		if r := recover(); r != nil {
			l.log.Error("engine step panicked", "panic", r, "tokens", len(l.batch.Tokens), "spans", len(l.batch.Spans),
				"outputs", len(l.batch.Outputs), "stack", string(debug.Stack()))
			l.failAll(fmt.Errorf("%w: %v", api.ErrInternal, r))
			worked = true
		}
	}()
	return l.step()
}
