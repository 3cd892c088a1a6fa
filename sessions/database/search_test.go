package database

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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
		if len(found) > 0 && (found[0].Session.ID != "conv_1" || (found[0].Item == nil || found[0].Item.ID != "m1")) {
			t.Errorf("%s: found %+v", query, found)
		}
	}
	for _, query := range []string{"", "  ", `""`, "***", "- .", "äp*"} {
		if _, _, err := d.SearchSessions(ctx, "a", query, Page{}); !errors.Is(err, ErrQuery) {
			t.Errorf("%q: %v", query, err)
		}
	}
}

// TestSearchTitles finds sessions by what they are called, before those where somebody said so, and by what they are called
// now.
func TestSearchTitles(t *testing.T) {
	ctx, d := t.Context(), open(t, Options{})
	called := func(id, title, metadata string) *Session {
		return &Session{ID: id, Tenant: "a", Title: title, Metadata: json.RawMessage(metadata)}
	}
	check(t, d.CreateSession(ctx, called("conv_1", "The Äpfel of Aachen", ""), nil))
	check(t, d.CreateSession(ctx, called("conv_2", "", `{"title":"More Äpfel","fruit":"pears"}`), messages("m", 1)))
	check(t, d.CreateSession(ctx, called("conv_3", "Both", `{"title":"Both"}`), []Item{message("m3", "Äpfel, and both of them")}))
	check(t, d.CreateSession(ctx, &Session{ID: "conv_4", Tenant: "b", Title: "Äpfel"}, nil))
	find := func(query string, page Page) (list []string) {
		t.Helper()
		found, _, err := d.SearchSessions(ctx, "a", query, page)
		check(t, err)
		for _, f := range found {
			if (f.Title == "") != (f.Item != nil) {
				t.Errorf("%s: found %+v", query, f)
			}
			list = append(list, f.Session.ID)
		}
		return list
	}
	for query, want := range map[string]string{
		"apfel": "conv_2 conv_1 conv_3", "apf*": "conv_2 conv_1 conv_3", `"apfel of"`: "conv_1", "pears": "", "both": "conv_3", `"both both"`: "",
	} {
		if got := strings.Join(find(query, Page{}), " "); got != want {
			t.Errorf("%s: found %q, want %q", query, got, want)
		}
	}
	if got := find("apfel", Page{After: "conv_2", Limit: 1}); !slices.Equal(got, []string{"conv_1"}) {
		t.Errorf("the page behind the first title has %v", got)
	}
	if got := find("apfel", Page{After: "conv_1"}); !slices.Equal(got, []string{"conv_3"}) {
		t.Errorf("the page behind the titles has %v", got)
	}
	_, err := d.UpdateSession(ctx, "a", "conv_1", func(s *Session) error { s.Title = "Pears"; return nil })
	check(t, err)
	_, err = d.UpdateSession(ctx, "a", "conv_2", func(s *Session) error { s.Metadata = nil; return nil })
	check(t, err)
	check(t, d.ForkSession(ctx, "conv_1", called("conv_5", "Apfelbaum", ""), 0, nil))
	for query, want := range map[string]string{"apfel": "conv_3", "apfel*": "conv_5 conv_3", "pears": "conv_1"} {
		if got := strings.Join(find(query, Page{}), " "); got != want {
			t.Errorf("after changes, %s: found %q, want %q", query, got, want)
		}
	}
	for _, id := range []string{"conv_1", "conv_2", "conv_3", "conv_5"} {
		_, err := d.DeleteSession(ctx, "a", id)
		check(t, err)
	}
	verifySums(t, d)
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
