package database

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// sealedOf lists what anchors seal.
func sealedOf(list []Anchor) (texts []string) {
	for _, a := range list {
		texts = append(texts, string(a.Sealed))
	}
	return texts
}

func TestAnchors(t *testing.T) {
	now := day
	d := open(t, Options{Now: func() time.Time { return now }})
	put := func(tenant, key string, start int, sealed string) *Anchor {
		t.Helper()
		a := &Anchor{Key: []byte(key), Start: start, Sealed: []byte(sealed)}
		if err := d.PutAnchor(t.Context(), tenant, a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	put("a", "k1", 10, "first")
	second := put("a", "k1", 10, "second")
	put("a", "k2", 20, "third")
	put("b", "k1", 10, "other")
	find := func(tenant string, keys ...string) []string {
		t.Helper()
		var list [][]byte
		for _, key := range keys {
			list = append(list, []byte(key))
		}
		found, err := d.Anchors(t.Context(), tenant, list)
		if err != nil {
			t.Fatal(err)
		}
		return sealedOf(found)
	}
	if got, want := find("a", "k1", "k2", "k3"), []string{"third", "second", "first"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	if got, want := find("b", "k1", "k2"), []string{"other"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	if got := find("a"); got != nil {
		t.Errorf("without a key %q", got)
	}
	many := []string{"k2"}
	for i := range 1200 {
		many = append(many, fmt.Sprintf("no %d", i))
	}
	if got, want := find("a", append(many, "k1")...), []string{"third", "second", "first"}; !slices.Equal(got, want) {
		t.Errorf("among many %q, want %q", got, want)
	}
	between, err := d.AnchorsBetween(t.Context(), "a", 10, 20)
	if want := []string{"first", "second"}; err != nil || !slices.Equal(sealedOf(between), want) {
		t.Errorf("between 10 and 20: %q, %v, want %q", sealedOf(between), err, want)
	}
	if err := d.DeleteAnchors(t.Context(), "b", []int64{second.ID}); err != nil {
		t.Fatal(err)
	}
	if err := d.DeleteAnchors(t.Context(), "a", []int64{second.ID}); err != nil {
		t.Fatal(err)
	}
	if got, want := find("a", "k1"), []string{"first"}; !slices.Equal(got, want) {
		t.Errorf("after the second went: %q, want %q", got, want)
	}
	now = now.Add(anchorLife + time.Second)
	put("a", "k3", 30, "last")
	if got, want := find("a", "k1", "k2", "k3"), []string{"last"}; !slices.Equal(got, want) {
		t.Errorf("a month later: %q, want %q", got, want)
	}
}
