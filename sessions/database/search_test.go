package database

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestSearch(t *testing.T) {
	ctx, d := t.Context(), open(t, Options{})
	check(t, d.CreateSession(ctx, &Session{ID: "conv_1", Tenant: "a"}, []Item{message("m1", "Die Äpfel kosten viel. 我喜欢苹果。")}))
	check(t, d.CreateSession(ctx, &Session{ID: "conv_2", Tenant: "b"}, []Item{message("m2", "Die Äpfel")}))
	for query, want := range map[string]int{
		"apfel": 1, "äpf*": 1, "苹果": 1, "果苹": 0, `"kosten viel"`: 1, `"viel kosten"`: 0, "birnen": 0,
		`apfel AND kosten`: 0, `apfel) OR (x`: 0, `text:apfel`: 0, `NEAR(apfel viel)`: 0, `"apfel`: 1, `apfel - ^ * .`: 1,
	} {
		found, _, err := d.SearchSessions(ctx, "a", query, Page{})
		if err != nil || len(found) != want {
			t.Errorf("%s: found %v, %v, want %d", query, found, err, want)
		}
		if len(found) > 0 && (found[0].Session.ID != "conv_1" || found[0].Item.ID != "m1") {
			t.Errorf("%s: found %+v", query, found)
		}
	}
	for _, query := range []string{"", "  ", `""`, "***", "- .", "äp*"} {
		if _, _, err := d.SearchSessions(ctx, "a", query, Page{}); !errors.Is(err, ErrQuery) {
			t.Errorf("%q: %v", query, err)
		}
	}
}

// TestSearchGoesOn reads all pages, newest match first, and sees what was stored after a search.
func TestSearchGoesOn(t *testing.T) {
	ctx, d := t.Context(), open(t, Options{})
	var want []string
	for i := range 7 {
		id := fmt.Sprintf("conv_%d", i)
		check(t, d.CreateSession(ctx, &Session{ID: id, Tenant: "a"}, messages(fmt.Sprintf("m%d_", i), 3)))
		check(t, d.CreateSession(ctx, &Session{ID: id, Tenant: "b"}, messages(fmt.Sprintf("m%d_", i), 3)))
		want = append([]string{id}, want...)
		var got []string
		for after := ""; ; {
			found, more, err := d.SearchSessions(ctx, "a", "word1", Page{After: after, Limit: 2})
			check(t, err)
			for _, f := range found {
				got = append(got, f.Session.ID)
				after = f.Session.ID
				if f.Session.Tenant != "a" || !strings.HasSuffix(f.Item.ID, "_1") {
					t.Errorf("found %+v", f)
				}
			}
			if !more {
				break
			}
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Fatalf("found %v, want %v", got, want)
		}
	}
	if _, _, err := d.SearchSessions(ctx, "a", "word1", Page{After: "conv_x"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("after a session that is not there: %v", err)
	}
}

func TestExcerpt(t *testing.T) {
	text := strings.Repeat("before ", 20) + "the Äpfel were\n\tgreen " + strings.Repeat("after ", 20)
	for query, want := range map[string]string{
		"apfel":        "…before the Äpfel were green after after aft…",
		"gre*":         "…Äpfel were green after after after after afte…",
		"nothing":      "before before before before before before before b…",
		`"`:            "before before before before before before before b…",
		"before apfel": "before before before before before before before b…",
	} {
		if got := Excerpt(text, query, 50); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	if got := Excerpt("short", "short", 50); got != "short" {
		t.Errorf("%q", got)
	}
}

// FuzzSearch looks for every text by any query: it finds it, or not, or says what is wrong with the query, and never tells
// of another tenant's.
func FuzzSearch(f *testing.F) {
	for _, q := range []string{`a "b c" d*`, `NEAR(a b, 2) OR text:x -y ^z`, "\x00\ue000\xff\"", "ſtraße ﬁ Ǆ ß İ", "我喜欢 ไทย"} {
		f.Add(q, q)
	}
	d, err := Open(f.Context(), Memory, Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { d.Close() })
	f.Fuzz(func(t *testing.T, text, query string) {
		ctx := t.Context()
		item := message("m", "")
		item.Text = text
		check(t, d.CreateSession(ctx, &Session{ID: "conv", Tenant: "a"}, []Item{item}))
		defer func() {
			if _, err := d.DeleteSession(ctx, "a", "conv"); err != nil {
				t.Error(err)
			}
		}()
		if found, _, err := d.SearchSessions(ctx, "b", query, Page{}); len(found) > 0 || err != nil && !errors.Is(err, ErrQuery) {
			t.Errorf("%q finds %v, %v of another tenant", query, found, err)
		}
		if _, _, err := d.SearchSessions(ctx, "a", query, Page{}); err != nil && !errors.Is(err, ErrQuery) {
			t.Errorf("%q: %v", query, err)
		}
		Excerpt(text, query, 10)
		// A phrase of the text's own words is found.
		var own []string
		words(text, func(w word) bool { own = append(own, text[w.start:w.end]); return len(own) < 5 })
		phrase := `"` + strings.Join(own, " ") + `"`
		if len(own) == 0 || len(phrase) > maxQueryBytes {
			return
		}
		if found, _, err := d.SearchSessions(ctx, "a", phrase, Page{}); err != nil || len(found) != 1 {
			t.Errorf("%q in %q: found %d, %v", phrase, text, len(found), err)
		}
	})
}
