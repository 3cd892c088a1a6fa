package draft

import "time"

// NumClasses is how many degrees of sureness a source may tell apart.
const NumClasses = 6

// Control measures what guesses cost and bring, and chooses how many a step checks. It is plain data with no clock of its
// own. A guess at depth i of a lane whose guesses are right with the probability p brings a token with the probability
// p^i, since all before it have to be right as well. With these and the measured time of a step of so many rows, it
// checks as many as promise the most tokens per second.
type Control struct {
	Always bool // check all guesses that there is room for, whatever they cost: for tests and measures

	costs  costs
	shares [NumSources][NumClasses]share
	effort [NumSources]effort
}

// first are the shares taken for right before anything was measured.
var first = [NumSources][NumClasses]float64{
	NGram: {0.3, 0.4, 0.5, 0.6, 0.75, 0.9}, Heads: {0.7}, OtherModel: {0.6},
}

// share estimates a probability from trials, of which older ones count less.
type share struct{ hits, trials float64 }

// update adds trials; keep is what the older ones count after each new one.
func (s *share) update(hits, trials int, keep float64) {
	for i := range trials {
		s.hits, s.trials = s.hits*keep, s.trials*keep+1
		if i < hits {
			s.hits++
		}
	}
}

// given is the estimate that starts from a presumption worth so many trials.
func (s *share) given(presumed, weight float64) float64 {
	return (s.hits + presumed*weight) / (s.trials + weight)
}

const (
	leastGain = 0.02 // of a token; a row that promises less is not worth a thought

	presumedTrials = 2    // what a presumption is worth
	keepOfAll      = 0.97 // some thirty guesses of all sequences count
	keepOfLane     = 0.95 // twenty of one's own
	firstReach     = 4    // guesses of a lane that has none yet: what is right doubles them, what is wrong halves them

	firstPause = 32   // proposals between two trials where guesses do not pay
	lastPause  = 1024 // each trial that fails doubles it up to this
)

// Right is the probability that a guess of a lane's draft is right when those before it are.
func (c *Control) Right(l *Lane, source Source, class int) float64 {
	all := c.shares[source][class].given(first[source][class], presumedTrials)
	return l.rates[source][class].given(all, presumedTrials)
}

// effort is the measured time of a drafter that is a model.
type effort struct {
	follow float64 // seconds to follow a step without guessing; 0: never measured
	guess  float64 // seconds for each guess of all lanes behind that; 0: never measured
}

// Drafted records how long a drafter took that is a model, for so many guesses of the lane that wanted most.
func (c *Control) Drafted(source Source, guesses int, took time.Duration) {
	e, seconds := &c.effort[source], took.Seconds()
	if guesses == 0 {
		e.follow = mean(e.follow, seconds)
		return
	}
	e.guess = mean(e.guess, max(seconds-e.follow, 0)/float64(guesses))
}

// mean is a moving average that begins with the first measure, and does not take one that was held up for all it says.
func mean(average, measure float64) float64 {
	if average == 0 {
		return measure
	}
	return average + newest*(min(measure, 2*average)-average)
}

// Wish says how many guesses, at most Most, lanes ask of a drafter that is a model, by setting Most.
func (c *Control) Wish(lanes []*Lane, source Source, rows, room int) {
	for _, l := range lanes {
		l.right, l.length = c.Right(l, source, 0), min(l.Most, c.reach(l))
	}
	c.best(lanes, rows, room, c.effort[source].guess)
	for _, l := range lanes {
		most := l.Most
		l.Most = l.keep
		if l.keep == 0 && most > 0 {
			l.quiet++
			if room > 0 && l.quiet >= max(l.pause, firstPause) {
				l.Most = 1
			}
		}
	}
}

// Choose shortens the drafts of a step's lanes to what pays, together at most room. Of lanes whose drafts do not pay one
// is tried now and then, since that may change.
func (c *Control) Choose(lanes []*Lane, room int) {
	for _, l := range lanes {
		l.right, l.length = c.Right(l, l.Source, l.Class), min(len(l.Draft), c.reach(l))
	}
	taken := c.best(lanes, len(lanes), room, 0)
	for _, l := range lanes {
		c.shorten(l, taken < room && c.costs.known(len(lanes)))
	}
}

// reach is the most guesses of a lane that may be checked in the next step.
func (c *Control) reach(l *Lane) int {
	if c.Always {
		return maxRows
	}
	return max(l.reach, 1)
}

// best sets keep of each lane to how many guesses, up to length, promise the most tokens per second in a step of so many
// rows without them, where each depth costs so many seconds to draft. It returns their sum, at most room.
func (c *Control) best(lanes []*Lane, rows, room int, depthSeconds float64) (taken int) {
	tokens, depth := float64(rows), 0
	best := tokens / c.costs.of(rows)
	for _, l := range lanes {
		l.next, l.taken, l.keep = l.right, 0, 0
	}
	if !c.costs.known(rows) && !c.Always {
		return 0 // nothing can be compared with what is not known
	}
	for n := 1; n <= room; n++ { // the surest guesses first
		var pick *Lane
		for _, l := range lanes {
			if l.taken < l.length && (pick == nil || l.next > pick.next) {
				pick = l
			}
		}
		if pick == nil || pick.next < leastGain && !c.Always {
			break
		}
		pick.taken++
		depth = max(depth, pick.taken)
		tokens += pick.next
		pick.next *= pick.right
		if rate := tokens / (c.costs.of(rows+n) + float64(depth)*depthSeconds); rate > best || c.Always {
			best, taken = rate, n
			for _, l := range lanes {
				l.keep = l.taken
			}
		}
	}
	return taken
}

// shorten cuts a lane's draft to what was chosen, or to a trial.
func (c *Control) shorten(l *Lane, room bool) {
	if l.keep == 0 && len(l.Draft) > 0 {
		l.quiet++
		if room && l.quiet >= max(l.pause, firstPause) {
			l.keep = 1
		}
	}
	l.Draft = l.Draft[:l.keep]
}

// Checked records that some of a lane's guesses were checked, and how many of the first were right.
func (c *Control) Checked(l *Lane, checked, right int) {
	if checked == 0 {
		return
	}
	l.Drafted += checked
	l.Accepted += right
	tested := min(right+1, checked) // nobody knows about those behind a wrong one
	c.shares[l.Source][l.Class].update(right, tested, keepOfAll)
	l.rates[l.Source][l.Class].update(right, tested, keepOfLane)
	if l.quiet > 0 && right == 0 {
		l.pause = min(2*max(l.pause, firstPause), lastPause)
	} else if right > 0 {
		l.pause = firstPause
	}
	l.quiet = 0
	switch right {
	case checked:
		l.reach = min(2*max(l.reach, 1), maxRows)
	case 0:
		l.reach /= 2
	}
}

// Took records how long a step took that had so many rows, all of them next tokens and guesses.
func (c *Control) Took(rows int, took time.Duration) { c.costs.update(rows, took.Seconds()) }
