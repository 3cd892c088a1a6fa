package all

import (
	"strings"
	"testing"
)

// TestOpen opens every device that is listed, and checks that what cannot be opened is named.
func TestOpen(t *testing.T) {
	for name := range strings.SplitSeq(NameList(), ", ") {
		d, err := Open(name, Options{})
		if err != nil {
			t.Errorf("Open(%q): %v", name, err)
			continue
		}
		if got := d.Info().Name; got != name {
			t.Errorf("Open(%q) opened %q", name, got)
		}
		if err := d.Close(); err != nil {
			t.Errorf("Close of %q: %v", name, err)
		}
	}
	for _, test := range []struct {
		name    string
		options Options
		want    string
	}{
		{"abacus", Options{}, `"abacus"`},
		{"cpu", Options{Threads: -1}, "Threads"},
		{"cpu", Options{ISA: "z80"}, "z80"},
		{"gorgonia", Options{Threads: 2}, "gorgonia"},
		{"gorgonia", Options{ISA: "avx2"}, "gorgonia"},
	} {
		if d, err := Open(test.name, test.options); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Open(%q, %+v) = %v, %v, want an error naming %s", test.name, test.options, d, err, test.want)
		}
	}
}
