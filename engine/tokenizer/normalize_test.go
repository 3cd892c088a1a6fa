package tokenizer

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"
)

// TestComposeAgainstNorm checks our composition where the library's is the standard's: up to 30 marks in a row.
func TestComposeAgainstNorm(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	starters := []string{"a", "é", "ế", "가", "각", "ᄀ", "ᅡ", "ᆨ", "क", "ো", "\u0344", "Å", "", "\xFF", "क़"}
	marks := []string{"\u0301", "\u0302", "\u0323", "\u0327", "\u0328", "\u0345", "\u093C", "\u3099", "\u0315", "\u031B", "\u0338", "ᅡ", "ᆨ", "\u09BE"}
	for range 20000 {
		text := starters[random.IntN(len(starters))]
		for range random.IntN(12) {
			text += marks[random.IntN(len(marks))]
		}
		var got strings.Builder
		compose(&got, text)
		if want := norm.NFC.String(text); got.String() != want {
			t.Fatalf("compose(%+q) = %+q, want %+q", text, got.String(), want)
		}
	}
}

// TestNormalizeKeepsLongRunsOfMarks checks that nothing is put between many marks, and that the rest of the text is
// normalized as ever.
func TestNormalizeKeepsLongRunsOfMarks(t *testing.T) {
	for _, n := range []int{1, 29, 30, 31, 32, 33, 100, 5000} {
		marks := strings.Repeat("\u0316", n) // class 220, stays
		got := normalize("e\u0301 a"+marks+"\u0301b o\u0308", true)
		// U+0301 has class 230: it comes last, and is not blocked, since all between it and the letter have a lower class.
		if want := "é á" + marks + "b ö"; got != want {
			t.Errorf("%d marks: got %+q, want %+q", n, got, want)
		}
		same := strings.Repeat("\u0301", n)
		if got, want := normalize("a"+same, true), "á"+strings.Repeat("\u0301", n-1); got != want {
			t.Errorf("%d equal marks: got %+q, want %+q", n, got, want)
		}
		if got := normalize(same, true); got != same {
			t.Errorf("%d marks alone: got %+q", n, got)
		}
	}
}

func TestNormalizeRandom(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 2))
	for range 3000 {
		text := randomText(random, random.IntN(30))
		if got, want := normalize(text, true), norm.NFC.String(text); got != want {
			t.Fatalf("normalize(%+q) = %+q, want %+q", text, got, want)
		}
		if got := normalize(text, false); got != text {
			t.Fatalf("normalize(%+q) without NFC = %+q", text, got)
		}
	}
}

// TestNormalizeAroundLimit compares texts with about as many marks as the library takes with composition by the book.
func TestNormalizeAroundLimit(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 3))
	marks := []string{"\u0301", "\u0316", "\u0327", "\u0345", "\u0344", "ᅡ", "\u3099", "\u0F71\u0F72"}
	for range 3000 {
		text := []string{"a", "ế", "가", "", "ὖ", "\U0001D15E"}[random.IntN(6)]
		for range 20 + random.IntN(25) {
			text += marks[random.IntN(len(marks))]
		}
		var want strings.Builder
		compose(&want, text)
		if got := normalize(text, true); got != want.String() {
			t.Fatalf("normalize(%+q) = %+q, want %+q", text, got, want.String())
		}
	}
}

func TestDecomposeOrder(t *testing.T) {
	var texts []string
	for _, c := range decompose("q\u0307\u0323x\u0301\u0327") {
		texts = append(texts, c.text)
	}
	if want := []string{"q", "\u0323", "\u0307", "x", "\u0327", "\u0301"}; !slices.Equal(texts, want) {
		t.Errorf("decompose = %+q, want %+q", texts, want)
	}
}
