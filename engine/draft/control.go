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
}

// first are the shares taken for right before anything was measured.
var first = [NumSources][NumClasses]float64{
	NGram: {0.3, 0.4, 0.5, 0.6, 0.75, 0.9},
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

	presumedTrials = 4    // what a presumption is worth
	keepOfAll      = 0.99 // a hundred guesses of all sequences count
	keepOfLane     = 0.95 // twenty of one's own

	firstPause = 32   // proposals between two trials where guesses do not pay
	lastPause  = 1024 // each trial that fails doubles it up to this
)

// Right is the probability that a guess of a lane's draft is right when those before it are.
func (c *Control) Right(l *Lane, source Source, class int) float64 {
	all := c.shares[source][class].given(first[source][class], presumedTrials)
	return l.rates[source][class].given(all, presumedTrials)
}

// Choose shortens the drafts of a step's lanes to what pays, together at most room. Of lanes whose drafts do not pay one
// is tried now and then, since that may change.
func (c *Control) Choose(lanes []*Lane, room int) {
	rows, tokens := len(lanes), float64(len(lanes))
	if rows > 0 && !c.costs.known(rows) && !c.Always {
		room = 0 // nothing can be compared with what is not known
	}
	best, bestRows := tokens/c.costs.of(rows), 0
	for _, l := range lanes {
		l.right = c.Right(l, l.Source, l.Class)
		l.next, l.keep = l.right, 0
		l.length = 0
	}
	for taken := 1; taken <= room; taken++ { // the surest guesses first
		var pick *Lane
		for _, l := range lanes {
			if l.length < len(l.Draft) && (pick == nil || l.next > pick.next) {
				pick = l
			}
		}
		if pick == nil || pick.next < leastGain && !c.Always {
			break
		}
		pick.length++
		tokens += pick.next
		pick.next *= pick.right
		if rate := tokens / c.costs.of(rows+taken); rate > best || c.Always {
			best, bestRows = rate, taken
			for _, l := range lanes {
				l.keep = l.length
			}
		}
	}
	for _, l := range lanes {
		c.shorten(l, bestRows < room)
	}
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
}

// Took records how long a step took that had so many rows, all of them next tokens and guesses.
func (c *Control) Took(rows int, took time.Duration) { c.costs.update(rows, took.Seconds()) }
