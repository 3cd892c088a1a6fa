package engine

import "time"

// pace measures steps and decides how many prompt rows to put into one: beside running streams few enough that these do
// not stutter while a long prompt is computed, else few enough that a new request, or a caller who leaves, is noticed
// soon.
type pace struct {
	fixed  int     // rows of a step as configured; 0: measured
	decode float64 // seconds of a step of decodes alone, moving average
	row    float64 // seconds of a prompt row, moving average
	cost   cost    // of prompt rows by position

	decoding bool // the last step had decodes
	brief    bool // the disk is being read for sequences that run
}

// A mixed step may take this many times a step of decodes alone. Four keeps streams readable, and prompts long enough
// to use the arithmetic units.
const mixedStepFactor = 4

// longestStep is how long a step without decodes may take, where a pass over the weights is not slower still. It loses
// a few hundredths to steps of any length.
const longestStep = time.Second

// briefStep is how long it may take while blocks are read from disk, which come into the cache between steps only.
const briefStep = 100 * time.Millisecond

// firstRows is the choice before anything was measured.
const firstRows = 128

// budget returns the rows of the next step, at most limit.
func (p *pace) budget(limit int) int {
	rows := firstRows
	switch {
	case p.fixed > 0:
		return min(p.fixed, limit)
	case p.row == 0 || p.decoding && p.decode == 0:
	case p.decoding:
		rows = int((mixedStepFactor - 1) * p.decode / p.row)
	default:
		longest := longestStep
		if p.brief {
			longest = briefStep
		}
		rows = int(max(longest.Seconds(), mixedStepFactor*p.decode) / p.row)
	}
	return min(max(rows, minChunk), limit)
}

// observe takes the measure of a step.
func (p *pace) observe(done stepRows, took time.Duration) {
	decodes, prompts := done.decodes, done.prompts
	const weight = 0.2 // of the newest measure
	p.decoding = decodes > 0
	average := func(old *float64, now float64) {
		if *old == 0 {
			*old = now
		}
		*old += weight * (now - *old)
	}
	switch {
	case prompts == 0 && decodes > 0:
		average(&p.decode, took.Seconds())
	case prompts >= minChunk:
		if rest := took.Seconds() - min(float64(decodes), 1)*p.decode; rest > 0 {
			average(&p.row, rest/float64(prompts))
			p.cost.observe(prompts, done.position/float64(prompts), rest)
		}
	}
}
