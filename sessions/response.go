package sessions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"hearth/engine"
	"hearth/engine/api"
	"hearth/sessions/database"
	"hearth/sessions/items"
)

// Errors of responses; test with errors.Is.
var (
	// ErrNoPrevious says that the response to go on from is not there, or has not ended well.
	ErrNoPrevious = errors.New("sessions: there is no such response to go on from")
	// ErrNoConversation says that the conversation of a turn is not there.
	ErrNoConversation = errors.New("sessions: there is no such conversation")
	// ErrNotBackground says that a response cannot be cancelled or replayed because it does not run in the background.
	ErrNotBackground = errors.New("sessions: the response does not run in the background")
	// ErrNoEvents says that the events of a response are not kept.
	ErrNoEvents = errors.New("sessions: the events of the response are not kept")
)

// Causes for which a response ends early.
var (
	errCancelled = errors.New("sessions: the response was cancelled")
	errStopped   = fmt.Errorf("sessions: the response was stopped: %w", api.ErrClosed)
	errNotStored = errors.New("sessions: the response could not be stored")
	errTimeout   = fmt.Errorf("sessions: the response took longer than it may: %w", context.DeadlineExceeded)
)

// ResponseRequest asks for a response: one turn that goes on from items and leaves items behind.
type ResponseRequest struct {
	Turn   Turn           // all but Messages, Tools, Log and Now: model, sampling, limits, tenant
	Object ResponseObject // what the request says of itself; the rest is filled in
	Input  []items.Item   // what is new

	// Tools returns the tools of the turn, of which the items may bring some, and the names of those that stand for custom
	// tools.
	Tools func([]items.Item) (functions json.RawMessage, custom []string, err error)
	// Truncate leaves out the oldest items where not all fit; CompactAt puts a summary in their place when the prompt has as
	// many tokens, 0: never.
	Truncate  bool
	CompactAt int
	// Seal adds the sealed content to reasoning items.
	Seal bool
	// Memory has responses that are not stored; a response is remembered there, too, if it is not. It may be nil.
	Memory *ResponseMemory
	// Events says that the events of the response will be read.
	Events bool
	// Timeout is the most time that the response may take in the background.
	Timeout time.Duration

	Logger  *slog.Logger
	NewID   func(prefix string) string
	Now     func() time.Time
	Observe func(*Delta)              // is called with every delta, by the goroutine that runs the response
	Explain func(error) ResponseError // words the error that ended a response for its client
}

// asked returns when the response was asked for.
func (r *ResponseRequest) asked() time.Time { return time.Unix(r.Object.CreatedAt, 0) }

// ResponseRun is a response in progress. Its methods are safe for concurrent use.
type ResponseRun struct {
	ID    string
	Model Model

	store   *Store
	request *ResponseRequest
	plan    *plan
	stored  bool // there is a row of the response
	counted bool // among those that the store waits for
	cancel  context.CancelCauseFunc
	ctx     context.Context // of the turn: ends it
	unlock  func()          // of the conversation
	events  eventLog
	record  *recorder     // stores events before readers see them; nil: they are not stored
	done    chan struct{} // closed when the response has ended and is stored
	err     error         // why it did not end well; to be read after done

	writer *responseWriter // of the goroutine that runs the response

	mu     sync.Mutex     // guards object
	object ResponseObject // as it is now, for others to read
}

// Respond starts a response. It has begun when Respond returns: what is wrong with the request is an error of Respond, among
// them ErrNoPrevious, ErrNoConversation, ErrLocked, ErrNoDatabase, those of Run and those of the database. A response in
// the background goes on until it is complete or cancelled; another one ends with ctx.
func (s *Store) Respond(ctx context.Context, req *ResponseRequest) (*ResponseRun, error) {
	r := &ResponseRun{
		ID: req.Object.ID, store: s, request: req, stored: req.Object.Store, unlock: func() {}, done: make(chan struct{}),
		writer: &responseWriter{object: req.Object, newID: req.NewID, now: req.Now, quiet: !req.Events, logprobs: req.Turn.Logprobs >= 0},
	}
	if conversation := req.Object.Conversation; conversation != nil {
		unlock, err := s.Lock(req.Turn.Tenant, conversation.ID)
		if err != nil {
			return nil, err
		}
		r.unlock = unlock
	}
	begun := false
	defer func() { // a panic holds no conversation either
		if !begun {
			r.abandon()
		}
	}()
	stream, err := r.begin(ctx)
	if err != nil {
		return nil, err
	}
	begun = true
	go r.run(stream)
	return r, nil
}

// abandon gives back what a response holds that has not begun.
func (r *ResponseRun) abandon() {
	if r.cancel != nil {
		r.cancel(nil)
	}
	if r.counted {
		r.store.responses.remove(r)
	}
	r.unlock()
}

// begin does what may fail before the response has begun, and announces the response.
func (r *ResponseRun) begin(ctx context.Context) (*Stream, error) {
	req := r.request
	var err error
	if r.Model, err = r.store.Model(req.Turn.Model); err != nil {
		return nil, err
	}
	if r.plan, err = r.store.plan(ctx, req); err != nil {
		return nil, err
	}
	r.writer.custom = r.plan.custom
	if req.Seal {
		r.writer.seal = func(text string) string { return r.store.seal(reasoning, req.Turn.Tenant, []byte(text)) }
	}
	r.bound(ctx)
	if err := r.store.responses.add(r); err != nil {
		return nil, err
	}
	r.counted = true
	var stream *Stream
	if r.plan.summarise == nil {
		stream, err = r.store.Run(r.ctx, &r.plan.turn)
	}
	if err == nil {
		r.writer.begin()
		if err = r.create(ctx); err != nil && stream != nil {
			stream.Close()
		}
	}
	if err != nil {
		return nil, err
	}
	if r.stored && req.Object.Background && req.Events {
		r.record = newRecorder(func(events []database.Event) error {
			return r.store.database.AppendEvents(context.WithoutCancel(r.ctx), req.Turn.Tenant, r.ID, events)
		}, r.events.append, func() { r.cancel(errNotStored) })
	}
	r.publish()
	return stream, nil
}

// bound makes the context of the turn, which in the background has a time of its own.
func (r *ResponseRun) bound(ctx context.Context) {
	stop := func() {}
	if r.request.Object.Background {
		ctx, stop = context.WithTimeoutCause(context.WithoutCancel(ctx), r.request.Timeout, errTimeout)
	}
	bounded, cancel := context.WithCancelCause(ctx)
	r.ctx = bounded
	r.cancel = func(cause error) {
		cancel(cause)
		stop()
	}
}

// create stores the response as it begins.
func (r *ResponseRun) create(ctx context.Context) error {
	if !r.stored {
		return nil
	}
	input := r.input()
	if r.plan.history.remembered { // what it goes on from is stored nowhere else
		input = slices.Concat(r.plan.history.items, input)
	}
	return r.store.database.CreateResponse(ctx, r.row(), Stored(input, r.request.asked()))
}

// input is what is new, without what only concerns the request.
func (r *ResponseRun) input() []items.Item {
	return slices.DeleteFunc(slices.Clone(r.request.Input), func(item items.Item) bool { return item.ID == "" })
}

// row is the response as the database keeps it.
func (r *ResponseRun) row() *database.Response {
	object := r.writer.object
	object.Output = []json.RawMessage{}
	row := &database.Response{
		ID: r.ID, Tenant: r.request.Turn.Tenant, Model: object.Model, Status: object.Status, Background: object.Background,
		Created: time.Unix(object.CreatedAt, 0), Object: marshal(object),
	}
	if object.PreviousResponseID != nil && !r.plan.history.remembered {
		row.Previous = *object.PreviousResponseID
	}
	if object.Conversation != nil {
		row.Session = object.Conversation.ID
	} else {
		row.Expires = r.store.Expiry(row.Created)
	}
	return row
}

// run reads the turn to its end. The last event is published when the response is stored: what a client knows to be
// complete is not lost.
func (r *ResponseRun) run(stream *Stream) {
	defer close(r.done)
	defer r.store.responses.remove(r)
	defer r.cancel(nil)
	r.writer.started()
	r.publish()
	finish, tokens := r.answer(stream)
	if err := r.record.flush(); err != nil {
		r.err = err
	}
	r.end(finish, tokens)
}

// answer reads the turn to its end, and returns how it ended and its exact tokens. Where a summary is to be made first, the
// stream is nil, and the turn starts from the summary.
func (r *ResponseRun) answer(stream *Stream) (finish *Finish, tokens []int32) {
	finish = &Finish{}
	defer func() { // a panic ends the response, and nothing else that this process does
		if p := recover(); p != nil {
			r.err, tokens = fmt.Errorf("%w: sessions: response %s panicked: %v\n%s", api.ErrInternal, r.ID, p, debug.Stack()), nil
			if stream != nil {
				stream.Close()
			}
		}
	}()
	if stream == nil {
		stream, finish.Usage, r.err = r.compact()
	}
	if stream == nil {
		return finish, nil
	}
	for d, ok := stream.Next(); ok; d, ok = stream.Next() {
		r.request.Observe(&d)
		r.writer.delta(&d)
		r.publish()
		if d.Finish != nil {
			add(&d.Finish.Usage, &finish.Usage)
			finish = d.Finish
		}
	}
	switch finish.Reason {
	case api.FinishError:
		r.err = finish.Err
	case api.FinishCancelled:
		r.err = context.Cause(r.ctx)
	}
	return finish, slices.Concat(stream.Prompt, finish.Tokens)
}

// compact sums up what is to be summed up, and starts the turn that goes on from there; nil if none does.
func (r *ResponseRun) compact() (*Stream, api.Usage, error) {
	p := r.plan
	c, err := r.store.Compact(r.ctx, p.summarise, r.request.NewID)
	if err != nil {
		return nil, api.Usage{}, err
	}
	item := c.Items[len(c.Items)-1]
	r.writer.whole(item, Stored([]items.Item{item}, r.request.Now())[0])
	r.publish()
	if p.only {
		return nil, c.Usage, nil
	}
	if p.turn.Messages, err = p.summarise.Messages(c.Items); err != nil {
		return nil, c.Usage, err
	}
	if p.turn.Log, err = r.store.CompactionLog(r.ctx, p.turn.Tenant, p.turn.Model, c.Items); err != nil {
		return nil, c.Usage, err
	}
	stream, err := r.store.Run(r.ctx, &p.turn)
	return stream, c.Usage, err
}

// end makes the last events, stores the response, and lets readers see that it has ended.
func (r *ResponseRun) end(finish *Finish, tokens []int32) {
	w := r.writer
	fail := func() { w.fail(NewResponseUsage(&finish.Usage, finish.ReasoningTokens), r.explain(r.err)) }
	last := *w // as it is before the last events
	if r.err == nil {
		w.finish(finish)
	} else {
		fail()
	}
	events := w.take()
	if err := r.save(events, finish, tokens); err != nil {
		r.request.Logger.Error("a response could not be stored", "response", r.ID, "error", err)
		r.err, *w = err, last
		fail()
		events = w.take()
		if err := r.save(events, finish, tokens); err != nil {
			r.request.Logger.Error("that a response failed could not be stored", "response", r.ID, "error", err)
			if r.stored { // Sweep says it when the database can be written again
				r.store.unended.add(r.request.Turn.Tenant, r.turnEnd(events, finish, tokens))
			}
		}
	}
	r.account(&finish.Usage)
	r.remember(tokens)
	r.store.responses.forget(r) // before the conversation can be deleted, and the response with it
	r.unlock()                  // before anyone can know that the turn has ended, and begin the next one
	r.show()
	r.events.append(events)
	r.events.close()
}

// account adds a turn that leaves nothing behind to the ledger; the others were added with what they left.
func (r *ResponseRun) account(u *api.Usage) {
	db := r.store.database
	if db == nil || r.stored || r.writer.object.Conversation != nil {
		return
	}
	if err := db.AddUsage(context.WithoutCancel(r.ctx), ledger(r.request.Turn.Tenant, r.writer.object.Model, u)); err != nil {
		r.request.Logger.Warn("the ledger of usage lacks a response", "response", r.ID, "error", err)
	}
}

// remember keeps a response that ended well and is not stored for as long as its client's connection lasts.
func (r *ResponseRun) remember(tokens []int32) {
	if r.request.Memory != nil && !r.stored && r.writer.ended() {
		r.request.Memory.put(r.ID, r.plan, r.input(), r.writer.output, tokens)
	}
}

// explain words why a response failed; a cancelled one did not fail.
func (r *ResponseRun) explain(err error) *ResponseError {
	if errors.Is(err, errCancelled) || errors.Is(err, context.Canceled) {
		return nil
	}
	why := r.request.Explain(err)
	return &why
}

// save stores what the turn leaves behind.
func (r *ResponseRun) save(events []database.Event, finish *Finish, tokens []int32) error {
	if !r.stored && r.writer.object.Conversation == nil {
		return nil
	}
	return r.store.database.FinishTurn(context.WithoutCancel(r.ctx), r.request.Turn.Tenant, r.turnEnd(events, finish, tokens))
}

// turnEnd is what the turn leaves behind.
func (r *ResponseRun) turnEnd(events []database.Event, finish *Finish, tokens []int32) *database.TurnEnd {
	object := &r.writer.object
	ended := r.writer.ended()
	end := &database.TurnEnd{Model: object.Model, Usage: ledger(r.request.Turn.Tenant, object.Model, &finish.Usage)}
	if r.stored {
		end.Response, end.Output = r.row(), r.writer.output
		if r.record != nil {
			end.Events = slices.Concat(r.record.left, events)
		}
		if ended {
			end.Response.Completed = r.request.Now()
		}
	}
	if ended && object.Conversation != nil {
		end.Session = object.Conversation.ID
		end.Append = append(Stored(r.input(), r.request.asked()), r.writer.output...)
	}
	if tokens != nil && (ended || r.stored) { // of one that failed, too: what was computed of it goes when it is deleted
		end.Log = &database.Log{
			Model: object.Model, Fingerprint: r.store.fingerprint(object.Model), Prompt: len(tokens) - len(finish.Tokens), Tokens: tokens,
		}
		if ended { // else the log of the turn before may be gone
			end.Log.Parent, end.Log.Shared = r.plan.history.logID, engine.CommonPrefix(r.plan.history.log, tokens)
		}
	}
	return end
}

// ledger is what a turn adds to the sums of what a tenant used.
func ledger(tenant, model string, u *api.Usage) *database.Usage {
	return &database.Usage{
		Tenant: tenant, Model: model, Requests: 1, PromptTokens: int64(u.PromptTokens), CachedTokens: int64(u.CachedTokens),
		WrittenTokens: int64(u.WrittenTokens), GeneratedTokens: int64(u.GeneratedTokens),
	}
}

// publish lets others see the response as it is now, and its events: at once, or when they are stored.
func (r *ResponseRun) publish() {
	r.show()
	events := r.writer.take()
	switch {
	case len(events) == 0:
	case r.record != nil:
		r.record.add(events)
	default:
		r.events.append(events)
	}
}

func (r *ResponseRun) show() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.object = r.writer.object
}

// Object returns the response as it is now, in the API's form.
func (r *ResponseRun) Object() json.RawMessage { return marshal(r.current()) }

func (r *ResponseRun) current() ResponseObject {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.object
}

// Status returns how far the response is.
func (r *ResponseRun) Status() string { return r.current().Status }

// Events returns the events from a sequence number on, and waits until there is one. There are none left when it returns
// none without an error.
func (r *ResponseRun) Events(ctx context.Context, from int) ([]database.Event, error) {
	return r.events.from(ctx, from)
}

// Close ends the response, if it has not ended, and waits for that. It returns the error that it ended with.
func (r *ResponseRun) Close() error {
	r.cancel(context.Canceled)
	<-r.done
	return r.err
}

// Wait returns when the response has ended, or ctx.
func (r *ResponseRun) Wait(ctx context.Context) error {
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
