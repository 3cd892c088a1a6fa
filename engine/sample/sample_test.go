package sample

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"

	"hearth/engine/api"
)

func newSampler(t testing.TB, params api.Sampling, vocab int) *Sampler {
	t.Helper()
	s, err := New(params, vocab)
	if err != nil {
		t.Fatalf("New(%+v): %v", params, err)
	}
	return s
}

// reference is the chain as its formulas are written, in float64 and with sorting: the distribution that Next draws
// from, by id; zero for what was filtered out.
func reference(params api.Sampling, logits []float32, tokens []int32) []float64 {
	l := make([]float64, len(logits))
	for i := range l {
		l[i] = float64(logits[i])
		if bias, ok := params.LogitBias[int32(i)]; ok {
			if l[i] += float64(bias); bias <= -100 {
				l[i] = math.Inf(-1)
			}
		}
	}
	referencePenalties(params, l, tokens)
	kept := make([]int, len(l))
	for i := range kept {
		kept[i] = i
	}
	sortBy := func(key func(i int) float64) {
		sort.Slice(kept, func(a, b int) bool {
			ka, kb := key(kept[a]), key(kept[b])
			return ka > kb || ka == kb && kept[a] < kept[b]
		})
	}
	keepMass := func(p float64, probs []float64) {
		total := 0.0
		for n, i := range kept {
			if total += probs[i]; total >= p {
				kept = kept[:n+1]
				return
			}
		}
	}
	logit := func(i int) float64 { return l[i] }
	sortBy(logit)
	if params.TopK > 0 {
		kept = kept[:min(params.TopK, len(kept))]
	}
	if p := float64(params.TypicalP); p > 0 && p < 1 {
		probs := softmax(l, kept, 1)
		entropy := 0.0
		for _, i := range kept {
			if probs[i] > 0 {
				entropy -= probs[i] * math.Log(probs[i])
			}
		}
		sortBy(func(i int) float64 { return -math.Abs(-math.Log(probs[i]) - entropy) })
		keepMass(p, probs)
		sortBy(logit)
	}
	if p := float64(params.TopP); p > 0 && p < 1 {
		keepMass(p, softmax(l, kept, 1))
	}
	if params.MinP > 0 {
		probs := softmax(l, kept, 1)
		best := probs[kept[0]]
		kept = slices.DeleteFunc(kept, func(i int) bool { return probs[i] < float64(params.MinP)*best })
	}
	return softmax(l, kept, float64(params.Temperature))
}

func referencePenalties(params api.Sampling, l []float64, tokens []int32) {
	window := params.RepeatLastN
	if window == 0 {
		window = 64
	}
	if window > 0 && len(tokens) > window {
		tokens = tokens[len(tokens)-window:]
	}
	repeat := float64(params.RepeatPenalty)
	if repeat == 0 {
		repeat = 1
	}
	counts := map[int32]int{}
	for _, id := range tokens {
		counts[id]++
	}
	for id, count := range counts {
		if l[id] > 0 {
			l[id] /= repeat
		} else {
			l[id] *= repeat
		}
		l[id] -= float64(count)*float64(params.FrequencyPenalty) + float64(params.PresencePenalty)
	}
}

func softmax(l []float64, kept []int, temperature float64) []float64 {
	best, total := math.Inf(-1), 0.0
	for _, i := range kept {
		best = max(best, l[i])
	}
	probs := make([]float64, len(l))
	for _, i := range kept {
		probs[i] = math.Exp((l[i] - best) / temperature)
		total += probs[i]
	}
	for i := range probs {
		probs[i] /= total
	}
	return probs
}

// testPartLen is so small that short rows have several parts.
const testPartLen = 8

// newRow returns a row of a copy of the logits, with its parts as a device computes them.
func newRow(logits []float32) *Row {
	scratch := NewScratch(len(logits), testPartLen)
	return scratch.Row(slices.Clone(logits), partsOf(logits, testPartLen))
}

// partsOf computes parts by their definition.
func partsOf(logits []float32, partLen int) (parts []float32) {
	for part := range slices.Chunk(logits, partLen) {
		m, sum := negInf, 0.0
		for _, l := range part {
			if l > m {
				m = l
			}
		}
		for _, l := range part {
			switch {
			case m != negInf:
				sum += math.Exp(float64(l) - float64(m))
			case l != m:
				sum = math.NaN()
			}
		}
		parts = append(parts, m, float32(sum))
	}
	return parts
}

// next draws from a copy of the logits.
func next(s *Sampler, logits []float32, tokens []int32) (int32, error) {
	return s.Next(newRow(logits), tokens)
}

// distribution is what Next draws from, by id.
func distribution(s *Sampler, logits []float32, tokens []int32) ([]float64, error) {
	r := newRow(logits)
	s.addBias(r)
	s.penalize(r, tokens)
	r.refresh()
	best, err := r.best()
	if err != nil {
		return nil, err
	}
	from, most, last := s.filter(r, best.key)
	probs, total := make([]float64, len(logits)), 0.0
	for i, l := range from.logits {
		if l != negInf && !last.before(ranked{key: l, id: int32(i)}) {
			w := math.Exp(float64((l - most) / s.params.Temperature))
			probs[from.token(int32(i))] = w
			total += w
		}
	}
	for i := range probs {
		probs[i] /= total
	}
	return probs, nil
}

// sameDistribution compares probabilities. A float32 chain may decide otherwise than a float64 one where a token lies
// on the border of a filter: then the reference must decide so too when its parameters move by a millionth.
func sameDistribution(got []float64, params api.Sampling, logits []float32, tokens []int32) error {
	var err error
	for _, nudge := range []float32{0, 4e-6, -4e-6} {
		p := params
		p.TopP, p.MinP, p.TypicalP = params.TopP*(1+nudge), params.MinP*(1+nudge), params.TypicalP*(1+nudge)
		want := reference(p, logits, tokens)
		same := true
		for i := range want {
			// A logit of up to 50 is rounded to 2e-6 at each step, and the temperature divides it.
			if math.Abs(got[i]-want[i]) > (1e-5+1e-5/float64(p.Temperature))*(want[i]+1e-3) {
				same = false
				if err == nil {
					err = fmt.Errorf("token %d has probability %v, want %v", i, got[i], want[i])
				}
				break
			}
		}
		if same {
			return nil
		}
	}
	return err
}

func randomLogits(rng *rand.Rand, n int) []float32 {
	logits := make([]float32, n)
	scale := float32([]float64{0.1, 1, 4, 12}[rng.IntN(4)])
	ties := rng.IntN(3) == 0
	for i := range logits {
		logits[i] = float32(rng.NormFloat64()) * scale
		if ties {
			logits[i] = float32(math.Round(float64(logits[i])))
		}
		if rng.IntN(40) == 0 {
			logits[i] = negInf
		}
	}
	logits[rng.IntN(n)] = scale
	return logits
}

func randomParams(rng *rand.Rand, vocab int) api.Sampling {
	p := api.Sampling{Temperature: float32(rng.Float64()*2 + 0.05), Seed: rng.Uint64()}
	maybe := func(f func()) {
		if rng.IntN(2) == 0 {
			f()
		}
	}
	maybe(func() { p.TopK = 1 + rng.IntN(vocab+5) })
	maybe(func() { p.TopP = rng.Float32() })
	maybe(func() { p.MinP = rng.Float32() * rng.Float32() })
	maybe(func() { p.TypicalP = rng.Float32() })
	maybe(func() { p.RepeatPenalty = 0.5 + rng.Float32() })
	maybe(func() { p.FrequencyPenalty = rng.Float32()*4 - 2 })
	maybe(func() { p.PresencePenalty = rng.Float32()*4 - 2 })
	maybe(func() { p.RepeatLastN = rng.IntN(20) - 1 })
	maybe(func() {
		p.LogitBias = map[int32]float32{int32(rng.IntN(vocab)): -100, int32(rng.IntN(vocab)): rng.Float32()*10 - 5}
	})
	return p
}

// TestChainAgainstReference compares the whole distribution under random parameters with the naive chain.
func TestChainAgainstReference(t *testing.T) {
	rounds := 4000
	if testing.Short() {
		rounds = 400
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range rounds {
		vocab := 2 + rng.IntN(300)
		logits, params := randomLogits(rng, vocab), randomParams(rng, vocab)
		tokens := make([]int32, rng.IntN(60))
		for i := range tokens {
			tokens[i] = int32(rng.IntN(vocab))
		}
		got, err := distribution(newSampler(t, params, vocab), logits, tokens)
		if errors.Is(err, ErrNoToken) { // the only finite logit was banned
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := sameDistribution(got, params, logits, tokens); err != nil {
			t.Errorf("round %d: %+v, %d logits, tokens %v: %v", round, params, vocab, tokens, err)
		}
	}
}

// FuzzChain feeds logits of any bits: Next returns a token that may be drawn, or says why it cannot.
func FuzzChain(f *testing.F) {
	f.Add(uint64(1), []byte{0, 0, 128, 63, 0, 0, 0, 0, 0, 0, 128, 255, 1, 0, 0, 0})
	f.Add(uint64(2), []byte{0, 0, 128, 127, 0, 0, 192, 127, 255, 255, 127, 127, 255, 255, 127, 255})
	f.Add(uint64(77), []byte(strings.Repeat("hearth ", 40)))
	f.Fuzz(func(t *testing.T, seed uint64, data []byte) {
		if len(data) < 4 || len(data) > 4096 {
			return
		}
		logits := make([]float32, len(data)/4)
		for i := range logits {
			b := data[4*i:]
			logits[i] = math.Float32frombits(uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24)
		}
		rng := rand.New(rand.NewPCG(seed, 3))
		params := randomParams(rng, len(logits))
		tokens := []int32{0, int32(len(logits) - 1), 0}
		s := newSampler(t, params, len(logits))
		token, err := next(s, logits, tokens)
		if errors.Is(err, ErrNoToken) {
			return
		}
		if err != nil || token < 0 || int(token) >= len(logits) {
			t.Fatalf("Next = %d, %v for %v, %+v", token, err, logits, params)
		}
		if l := logits[token]; l != l || math.IsInf(float64(l), 0) || params.LogitBias[token] <= -100 {
			t.Errorf("token %d with logit %v was drawn; %+v", token, l, params)
		}
	})
}

// TestDrawsFollowTheDistribution draws many times and applies the chi-square test to the counts: its statistic has the
// mean k-1 and the variance 2(k-1), and with fixed seeds the test never flickers.
func TestDrawsFollowTheDistribution(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	for name, params := range map[string]api.Sampling{
		"plain":       {Temperature: 1},
		"hot":         {Temperature: 1.7},
		"cold":        {Temperature: 0.4},
		"top-k":       {Temperature: 1, TopK: 7},
		"top-p":       {Temperature: 0.9, TopP: 0.8},
		"min-p":       {Temperature: 1.2, MinP: 0.1},
		"typical":     {Temperature: 1, TypicalP: 0.7},
		"all filters": {Temperature: 0.8, TopK: 40, TopP: 0.95, MinP: 0.05, TypicalP: 0.97},
	} {
		t.Run(name, func(t *testing.T) {
			const vocab, draws = 200, 40000
			logits := make([]float32, vocab)
			for i := range logits {
				logits[i] = float32(rng.NormFloat64()) * 2
			}
			want := reference(params, logits, nil)
			counts := make([]float64, vocab)
			params.Seed = 99
			s, row := newSampler(t, params, vocab), newRow(logits) // which these samplers do not change
			tokens := make([]int32, draws)
			for i := range draws { // every position once
				token, err := s.Next(row, tokens[:i])
				if err != nil {
					t.Fatal(err)
				}
				counts[token]++
			}
			chiSquare(t, counts, want, draws)
		})
	}
}

// chiSquare fails when counts are improbable for n draws from probs. Cells of few expected draws are put together.
func chiSquare(t *testing.T, counts, probs []float64, n float64) {
	t.Helper()
	statistic, cells := 0.0, 0
	restCount, restWant := 0.0, 0.0
	for i, p := range probs {
		switch want := p * n; {
		case p == 0 && counts[i] > 0:
			t.Errorf("token %d was filtered out and drawn %v times", i, counts[i])
		case want < 10:
			restCount += counts[i]
			restWant += want
		default:
			statistic += (counts[i] - want) * (counts[i] - want) / want
			cells++
		}
	}
	if restWant >= 10 {
		statistic += (restCount - restWant) * (restCount - restWant) / restWant
		cells++
	}
	freedom := float64(cells - 1)
	if deviation := (statistic - freedom) / math.Sqrt(2*freedom); deviation > 4 {
		t.Errorf("chi-square is %v with %v degrees of freedom, %v standard deviations too much", statistic, freedom, deviation)
	}
}

// uniform is the first number of a position.
func uniform(seed uint64, position int) float64 {
	random := newStream(seed, position)
	return random.uniform()
}

// TestSeedsAreIndependent draws one position with many seeds, neighbouring ones as the choices of a request have.
func TestSeedsAreIndependent(t *testing.T) {
	const cells, draws = 64, 64000
	for name, u := range map[string]func(i int) float64{
		"seeds":          func(i int) float64 { return uniform(uint64(i), 17) },
		"positions":      func(i int) float64 { return uniform(17, i) },
		"diagonal":       func(i int) float64 { return uniform(uint64(i), i) },
		"anti-diagonal":  func(i int) float64 { return uniform(uint64(draws-i), i) },
		"difference":     func(i int) float64 { return math.Mod(1+uniform(7, i)-uniform(7, i+1), 1) },
		"seeds' offsets": func(i int) float64 { return math.Mod(1+uniform(uint64(i), 3)-uniform(uint64(i+1), 3), 1) },
	} {
		counts, probs := make([]float64, cells), make([]float64, cells)
		for i := range draws {
			x := u(i)
			if x < 0 || x >= 1 {
				t.Fatalf("%s: %v is not in [0, 1)", name, x)
			}
			counts[int(x*cells)]++
		}
		for i := range probs {
			probs[i] = 1. / cells
		}
		t.Run(name, func(t *testing.T) { chiSquare(t, counts, probs, draws) })
	}
}

func TestDrawDependsOnSeedAndPositionAlone(t *testing.T) {
	const vocab = 50
	logits := randomLogits(rand.New(rand.NewPCG(8, 8)), vocab)
	s := newSampler(t, api.Sampling{Temperature: 1.5, Seed: 4}, vocab)
	draw := func(s *Sampler, position int) int32 {
		tokens := make([]int32, position)
		for i := range tokens {
			tokens[i] = int32((i * position) % vocab) // without penalties the tokens do not matter
		}
		token, err := next(s, logits, tokens)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	var forwards, backwards, fresh []int32
	for i := range 100 {
		forwards = append(forwards, draw(s, i))
		fresh = append(fresh, draw(newSampler(t, api.Sampling{Temperature: 1.5, Seed: 4}, vocab), i))
		backwards = append(backwards, draw(s, 99-i))
	}
	slices.Reverse(backwards)
	if !slices.Equal(forwards, backwards) || !slices.Equal(forwards, fresh) {
		t.Errorf("draws are\n%v forwards,\n%v backwards,\n%v by fresh samplers", forwards, backwards, fresh)
	}
	other := newSampler(t, api.Sampling{Temperature: 1.5, Seed: 5}, vocab)
	same := 0
	for i, token := range forwards {
		if draw(other, i) == token {
			same++
		}
	}
	if same > 50 {
		t.Errorf("two seeds agree on %d of 100 draws", same)
	}
}

func TestGreedy(t *testing.T) {
	inf := float32(math.Inf(1))
	nan := float32(math.NaN())
	for _, test := range []struct {
		logits []float32
		want   int32 // -1: an error
	}{
		{[]float32{1, 3, 2}, 1},
		{[]float32{3, 1, 3}, 0}, // lowest id on a tie
		{[]float32{negInf, negInf, -1e30}, 2},
		{[]float32{0, float32(math.Copysign(0, -1))}, 0},
		{[]float32{-math.MaxFloat32, math.MaxFloat32}, 1},
		{[]float32{negInf, negInf}, -1},
		{[]float32{1, nan, 2}, -1},
		{[]float32{nan, 2}, -1},
		{[]float32{2, nan}, -1},
		{[]float32{1, inf}, -1},
	} {
		for _, temperature := range []float32{0, 1} {
			s := newSampler(t, api.Sampling{Temperature: temperature, TopK: 1}, len(test.logits))
			got, err := next(s, test.logits, nil)
			switch {
			case test.want < 0:
				if !errors.Is(err, ErrNoToken) {
					t.Errorf("temperature %v, %v: token %d, error %v, want ErrNoToken", temperature, test.logits, got, err)
				}
			case err != nil || got != test.want:
				t.Errorf("temperature %v, %v: token %d, error %v, want %d", temperature, test.logits, got, err, test.want)
			}
		}
	}
}

func TestExtremeParameters(t *testing.T) {
	logits := []float32{1, 2, 2, -3, negInf}
	for name, test := range map[string]struct {
		params api.Sampling
		may    []int32
	}{
		"smallest temperature":     {api.Sampling{Temperature: math.SmallestNonzeroFloat32}, []int32{1, 2}},
		"largest temperature":      {api.Sampling{Temperature: math.MaxFloat32}, []int32{0, 1, 2, 3}},
		"smallest top-p":           {api.Sampling{Temperature: 1, TopP: math.SmallestNonzeroFloat32}, []int32{1}},
		"largest top-p":            {api.Sampling{Temperature: 1, TopP: 1 - 1./(1<<24)}, []int32{0, 1, 2, 3}},
		"smallest min-p":           {api.Sampling{Temperature: 1, MinP: math.SmallestNonzeroFloat32}, []int32{0, 1, 2, 3}},
		"largest min-p":            {api.Sampling{Temperature: 1, MinP: 1}, []int32{1, 2}},
		"smallest typical-p":       {api.Sampling{Temperature: 1, TypicalP: math.SmallestNonzeroFloat32}, []int32{1}},
		"top-k beyond vocabulary":  {api.Sampling{Temperature: 1, TopK: math.MaxInt}, []int32{0, 1, 2, 3}},
		"top-k with a tie":         {api.Sampling{Temperature: 1, TopK: 1}, []int32{1}},
		"all banned but one":       {api.Sampling{Temperature: 9, LogitBias: map[int32]float32{0: -100, 1: -101, 2: negInf}}, []int32{3}},
		"greatest repeat penalty":  {api.Sampling{Temperature: 1, RepeatPenalty: 100}, []int32{0, 1, 2, 3}},
		"greatest presence reward": {api.Sampling{Temperature: 1, PresencePenalty: -100}, []int32{3}},
	} {
		t.Run(name, func(t *testing.T) {
			s, seen := newSampler(t, test.params, len(logits)), map[int32]bool{}
			tokens := make([]int32, 300)
			for i := range tokens {
				tokens[i] = 3
			}
			for i := range tokens {
				token, err := next(s, logits, tokens[:1+i])
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Contains(test.may, token) {
					t.Fatalf("drew %d, only %v may be", token, test.may)
				}
				seen[token] = true
			}
			if test.params.Temperature == math.MaxFloat32 && len(seen) != 4 {
				t.Errorf("drew only %v", seen)
			}
		})
	}
}

func TestNewNamesTheField(t *testing.T) {
	nan := float32(math.NaN())
	for _, test := range []struct {
		field  string
		params api.Sampling
	}{
		{"temperature", api.Sampling{Temperature: -0.1}},
		{"temperature", api.Sampling{Temperature: nan}},
		{"temperature", api.Sampling{Temperature: float32(math.Inf(1))}},
		{"top_k", api.Sampling{TopK: -1}},
		{"top_p", api.Sampling{TopP: 1.01}},
		{"top_p", api.Sampling{TopP: nan}},
		{"min_p", api.Sampling{MinP: -1}},
		{"typical_p", api.Sampling{TypicalP: 2}},
		{"repeat_penalty", api.Sampling{RepeatPenalty: -1}},
		{"repeat_penalty", api.Sampling{RepeatPenalty: 1e-30}},
		{"repeat_last_n", api.Sampling{RepeatLastN: -2}},
		{"frequency_penalty", api.Sampling{FrequencyPenalty: 101}},
		{"presence_penalty", api.Sampling{PresencePenalty: nan}},
		{"logit_bias", api.Sampling{LogitBias: map[int32]float32{10: 1}}},
		{"logit_bias", api.Sampling{LogitBias: map[int32]float32{-1: 1}}},
		{"logit_bias", api.Sampling{LogitBias: map[int32]float32{1: 101}}},
		{"logit_bias", api.Sampling{LogitBias: map[int32]float32{1: nan}}},
	} {
		_, err := New(test.params, 10)
		var field *api.FieldError
		if !errors.As(err, &field) || field.Field != test.field || !errors.Is(err, api.ErrInvalid) {
			t.Errorf("New(%+v) = %v, want an error of field %s", test.params, err, test.field)
		}
	}
	newSampler(t, api.Sampling{}, 10)
}

func TestBan(t *testing.T) {
	row := newRow([]float32{1, 5, 2})
	row.Ban([]int32{1})
	token, err := newSampler(t, api.Sampling{}, 3).Next(row, nil)
	if err != nil || token != 2 {
		t.Errorf("Next = %d, %v, want 2", token, err)
	}
}

func TestPenaltiesSeeOnlyTheWindow(t *testing.T) {
	tokens := []int32{1, 1, 2, 3, 3, 3}
	for _, test := range []struct {
		lastN int
		want  []float32 // of logits 2, each minus 0.5 per occurrence and 0.25 once
	}{
		{-1, []float32{2, 0.75, 1.25, 0.25, 2}},
		{0, []float32{2, 0.75, 1.25, 0.25, 2}},
		{4, []float32{2, 2, 1.25, 0.25, 2}},
		{2, []float32{2, 2, 2, 0.75, 2}},
		{100, []float32{2, 0.75, 1.25, 0.25, 2}},
	} {
		params := api.Sampling{FrequencyPenalty: 0.5, PresencePenalty: 0.25, RepeatLastN: test.lastN}
		row := newRow([]float32{2, 2, 2, 2, 2})
		newSampler(t, params, 5).penalize(row, tokens)
		if !slices.Equal(row.logits, test.want) {
			t.Errorf("last %d: %v, want %v", test.lastN, row.logits, test.want)
		}
		if !slices.Equal(row.scratch.counts, make([]int32, 5)) {
			t.Errorf("counts are left at %v", row.scratch.counts)
		}
	}
	row := newRow([]float32{3, -3, 0, negInf})
	newSampler(t, api.Sampling{RepeatPenalty: 1.5}, 4).penalize(row, []int32{0, 1, 2, 3, 3})
	if want := []float32{2, -4.5, 0, negInf}; !slices.Equal(row.logits, want) {
		t.Errorf("repeat penalty: %v, want %v", row.logits, want)
	}
}

func TestExp(t *testing.T) {
	worst := 0.0
	for x := float32(0); x > -87; x -= 0.00137 {
		want := math.Exp(float64(x))
		worst = max(worst, math.Abs(float64(exp(x))-want)/want)
	}
	if worst > 2e-7 {
		t.Errorf("relative error of exp is %v", worst)
	}
	if exp(0) != 1 || exp(-88) != 0 || exp(negInf) != 0 {
		t.Errorf("exp(0) = %v, exp(-88) = %v, exp(-Inf) = %v", exp(0), exp(-88), exp(negInf))
	}
}

func TestLogprobs(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	for range 200 {
		logits := randomLogits(rng, 2+rng.IntN(400))
		l, all := make([]float64, len(logits)), make([]int, len(logits))
		for i := range logits {
			l[i], all[i] = float64(logits[i]), i
		}
		want := softmax(l, all, 1)
		sort.SliceStable(all, func(a, b int) bool { return l[all[a]] > l[all[b]] })
		token, n := int32(rng.IntN(len(logits))), rng.IntN(len(logits)+3)-1
		var got api.Logprob
		row := newRow(logits)
		if err := row.Top(n, &got); err != nil {
			t.Fatal(err)
		}
		row.Ban([]int32{token, int32(all[0])}) // changes that come later do not show
		row.Ban([]int32{token})
		got.Token, got.Logprob = token, row.Logprob(token)
		near := func(logprob float32, id int) bool {
			w := math.Log(want[id])
			return float64(logprob) == w || math.Abs(float64(logprob)-w) < 2e-6*max(1, math.Abs(w))
		}
		if got.Token != token || !near(got.Logprob, int(token)) {
			t.Fatalf("log-probability of %d is %v, want %v", token, got.Logprob, math.Log(want[token]))
		}
		possible := len(logits)
		for _, l := range logits {
			if l == negInf {
				possible--
			}
		}
		if len(got.Top) != max(0, min(n, possible)) {
			t.Fatalf("%d alternatives, want %d, %d are possible", len(got.Top), n, possible)
		}
		for i, top := range got.Top {
			if int(top.Token) != all[i] || !near(top.Logprob, all[i]) {
				t.Fatalf("alternative %d is %d with %v, want %d with %v", i, top.Token, top.Logprob, all[i], math.Log(want[all[i]]))
			}
		}
	}
	var p api.Logprob
	if err := newRow([]float32{1, float32(math.NaN())}).Top(1, &p); !errors.Is(err, ErrNoToken) {
		t.Errorf("logits that are no numbers: %v, want ErrNoToken", err)
	}
}

func TestNextAllocatesNothing(t *testing.T) {
	const vocab = 5000
	logits := randomLogits(rand.New(rand.NewPCG(2, 2)), vocab)
	work, scratch, tokens := make([]float32, vocab), NewScratch(vocab, testPartLen), make([]int32, 200)
	parts := partsOf(logits, testPartLen)
	workParts := slices.Clone(parts)
	for _, params := range []api.Sampling{
		{},
		{Temperature: 1},
		{Temperature: 0.8, TopK: 40, TopP: 0.95, MinP: 0.05, TypicalP: 0.9},
		{Temperature: 1, TopP: 0.9, RepeatPenalty: 1.1, FrequencyPenalty: 0.1, LogitBias: map[int32]float32{3: 1}, RepeatLastN: -1},
	} {
		s := newSampler(t, params, vocab)
		allocs := testing.AllocsPerRun(20, func() {
			copy(work, logits)
			copy(workParts, parts)
			row := scratch.Row(work, workParts)
			row.Ban(tokens[:1])
			if _, err := s.Next(row, tokens); err != nil {
				t.Fatal(err)
			}
		})
		if allocs != 0 {
			t.Errorf("%+v: %v allocations per token", params, allocs)
		}
	}
}

// TestFiltersOfManyTokens compares the cut of each filter with sorting, on vocabularies of many parts and with many ties.
func TestFiltersOfManyTokens(t *testing.T) {
	const vocab = 5000
	rng := rand.New(rand.NewPCG(6, 6))
	for round := range 60 {
		logits := make([]float32, vocab)
		scale := []float64{0, 0.1, 1, 3, 20}[round%5]
		for i := range logits {
			logits[i] = float32(rng.NormFloat64() * scale)
			if round%2 == 0 {
				logits[i] = float32(math.Round(float64(logits[i])))
			}
			if rng.IntN(10) == 0 {
				logits[i] = negInf
			}
		}
		params := api.Sampling{Temperature: 1}
		switch round % 3 {
		case 0:
			params.TopK = []int{1, 2, 40, 700, 4900}[rng.IntN(5)]
		case 1:
			params.TopP = []float32{0.01, 0.3, 0.9, 0.999}[rng.IntN(4)]
		case 2:
			params.TopK, params.TopP, params.MinP = 300, 0.8, 0.01
		}
		got, err := distribution(newSampler(t, params, vocab), logits, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := sameDistribution(got, params, logits, nil); err != nil {
			t.Errorf("round %d: %+v, scale %v: %v", round, params, scale, err)
		}
	}
}
