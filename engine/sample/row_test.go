package sample

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestRowSeesChanges compares a row that was changed with one whose parts are computed after the changes.
func TestRowSeesChanges(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for round := range 500 {
		logits := randomLogits(rng, 2+rng.IntN(100))
		row := newRow(logits)
		want := slices.Clone(logits)
		for range rng.IntN(6) {
			id, l := int32(rng.IntN(len(logits))), float32(rng.NormFloat64()*9)
			if rng.IntN(3) == 0 {
				l = negInf
			}
			row.set(id, l)
			want[id] = l
			if rng.IntN(3) == 0 {
				row.refresh()
			}
		}
		row.refresh()
		got, gotErr := row.best()
		expected, wantErr := newRow(want).best()
		if got != expected || (gotErr == nil) != (wantErr == nil) {
			t.Fatalf("round %d: best is %+v, %v, want %+v, %v", round, got, gotErr, expected, wantErr)
		}
		if gotErr != nil {
			continue
		}
		if total, exact := row.total(got.key), newRow(want).total(got.key); math.Abs(total-exact) > 1e-6*exact {
			t.Fatalf("round %d: total %v, want %v", round, total, exact)
		}
		for id, l := range logits {
			if raw := row.raw(int32(id)); raw != l {
				t.Fatalf("round %d: token %d had the logit %v, want %v", round, id, raw, l)
			}
		}
	}
}
