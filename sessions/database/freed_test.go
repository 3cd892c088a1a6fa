package database

import (
	"fmt"
	"testing"
)

// TestFreedFingerprints stores logs that engines of different fingerprints computed, and wants every engine that computed
// freed tokens to be named, also those of logs that went on from them and went before.
func TestFreedFingerprints(t *testing.T) {
	d, ctx := open(t, Options{}), t.Context()
	logs := make([]*Log, 4)
	for i, l := range []Log{
		{Fingerprint: "x", Tokens: []int32{1, 2}},
		{Fingerprint: "y", Tokens: []int32{1, 2, 3, 4}, Shared: 2},
		{Fingerprint: "x", Tokens: []int32{1, 2, 3, 4, 5}, Shared: 4},
		{Tokens: []int32{1, 2, 3, 4, 5, 6}, Shared: 5},
	} {
		l.Tenant, l.Model = "a", "m"
		if i > 0 {
			l.Parent = logs[i-1].ID
		}
		check(t, d.PutLog(ctx, &l))
		logs[i] = &l
		check(t, d.CreateSession(ctx, &Session{ID: fmt.Sprint("conv_", i), Tenant: "a", Log: l.ID}, []Item{message(fmt.Sprint("msg_", i), "x")}))
	}
	for _, test := range []struct {
		session int
		want    string
	}{
		{3, "[1 2 3 4 5 6] but 5 of []"},
		{1, ""}, // another log begins like it
		{0, ""},
		{2, "[1 2 3 4 5] but 4 of [x]; [1 2 3 4] but 2 of [y x]; [1 2] but 0 of [x y]"},
	} {
		freed, err := d.DeleteSession(ctx, "a", fmt.Sprint("conv_", test.session))
		check(t, err)
		got := ""
		for i, f := range freed {
			if i > 0 {
				got += "; "
			}
			got += fmt.Sprintf("%v but %d of %v", f.Tokens, f.Keep, f.Fingerprints)
		}
		if got != test.want {
			t.Errorf("session %d frees %s, want %s", test.session, got, test.want)
		}
	}
	all, err := d.Freed(ctx, "m", 10)
	check(t, err)
	known, err := d.Freed(ctx, "", 10)
	check(t, err)
	if len(all) != 4 || len(known) != 3 || known[1].ID != all[2].ID || fmt.Sprint(known[2].Fingerprints) != "[x y]" {
		t.Errorf("freed are %+v, of known fingerprints %+v", all, known)
	}
	check(t, d.Forgotten(ctx, known))
	if all, err := d.Freed(ctx, "m", 10); err != nil || len(all) != 1 {
		t.Errorf("left are %+v, %v", all, err)
	}
}
