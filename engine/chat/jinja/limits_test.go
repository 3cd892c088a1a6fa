package jinja

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// small are limits that a test reaches quickly.
var small = Options{MaxSteps: 100_000, MaxDepth: 500, MaxText: 1 << 20, MaxMemory: 2 << 20}

// TestLimits ends templates that would take time or memory without bound.
func TestLimits(t *testing.T) {
	nested := strings.Repeat("{% for a in r %}", 8) + strings.Repeat("{% endfor %}", 8)
	for name, source := range map[string]string{
		"long range":        `{% for i in range(10**9) %}{% endfor %}`,
		"range to list":     `{{ range(10**9)|list|length }}`,
		"range bounds":      `{{ range(10**18, 10**18 * 4)|length }}`,
		"nested loops":      `{% set r = range(100) %}` + nested,
		"long text":         `{{ 'a' * 10**9 }}`,
		"long text times":   `{{ ('abc' * 1000) * 10**15 }}`,
		"long list":         `{{ [1] * 10**9 }}`,
		"doubling":          `{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}`,
		"doubling list":     `{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}`,
		"macro recursion":   `{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}`,
		"call recursion":    `{% macro f() %}{% call f() %}{% endcall %}{{ caller is defined }}{% endmacro %}{{ f() }}`,
		"loop recursion":    `{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}`,
		"output":            `{% for i in range(10**6) %}{{ 'x' * 1000 }}{% endfor %}`,
		"self in list":      `{% set l = [] %}{% set _ = l.append(l) %}{{ l }}`,
		"self in json":      `{% set l = [] %}{% set _ = l.append(l) %}{{ l|tojson }}`,
		"self compared":     `{% set l = [] %}{% set m = [] %}{% set _ = l.append(m) %}{% set _ = m.append(l) %}{{ l == m }}`,
		"shared print":      `{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}`,
		"shared compare":    `{% set a = namespace(s=[1]) %}{% set b = namespace(s=[1]) %}{% for i in range(60) %}{% set a.s = [a.s, a.s] %}{% set b.s = [b.s, b.s] %}{% endfor %}{{ a.s == b.s }}`,
		"deep tuple key":    `{% set ns = namespace(s=(1,)) %}{% for i in range(10000) %}{% set ns.s = (ns.s,) %}{% endfor %}{{ {ns.s: 1} }}`,
		"growing iteration": `{% set l = [1] %}{% for x in l %}{% set _ = l.append(x) %}{% endfor %}`,
		"power":             `{{ 10 ** (10 ** 10) }}`,
		"product":           `{% set ns = namespace(n=2) %}{% for i in range(100) %}{% set ns.n = ns.n * ns.n %}{% endfor %}`,
		"width":             `{{ '%1000000000d' % 1 }}`,
		"precision":         `{{ '%.1000000000f' % 1 }}`,
		"format width":      `{{ '{:>1000000000}'.format('x') }}`,
		"center":            `{{ 'x'.center(10**12) }}`,
		"indent":            `{{ 'x\ny'|indent(10**12) }}`,
		"json indent":       `{{ [[1]]|tojson(indent=10**12) }}`,
		"replace":           `{{ ('a' * 1000).replace('', 'b' * 10000) }}`,
		"join":              `{{ ('b' * 10000).join('a' * 1000) }}`,
		"batch":             `{{ [1]|batch(10**12, 'x')|list }}`,
		"slice":             `{{ [1]|slice(10**12)|list }}`,
		"time format":       `{{ strftime_now('%c' * 10000) }}`,
		"dict":              `{% set d = {} %}{% for i in range(10**6) %}{% set _ = d.update({i: i}) %}{% endfor %}`,
		"characters":        `{% set s = 'é' * 400000 %}{% for i in range(10**6) %}{{ s[-1] }}{% endfor %}`,
		"lengths":           `{% set s = 'é' * 400000 %}{% for i in range(10**6) %}{{ s|length }}{{ s.startswith('x', 5) }}{% endfor %}`,
		"slice overflow":    `{{ [1]|slice(9223372036854775807)|list }}`,
		"lines":             `{{ ('\n' * 500000).splitlines()|length }}`,
		"words":             `{{ ('a ' * 250000).split()|length }}`,
		"separators":        `{{ ('a,' * 250000).split(',')|length }}`,
		"long elements":     `{% set s = 'A' * 500000 %}{{ ([s] * 20000)|unique|list|length }}`,
		"long keys":         `{% set s = 'a' * 500000 %}{% set d = {s: 1} %}{% for i in range(20000) %}{{ d[s] }}{% endfor %}`,
		"long prefixes":     `{% set s = 'a' * 400000 %}{% set p = s[:-1] ~ 'b' %}{% for i in range(20000) %}{{ s.startswith(p) }}{% endfor %}`,
		"long tests":        `{% set s = 'A' * 500000 %}{% for i in range(20000) %}{{ s is upper }}{% endfor %}`,
		"long numbers":      `{% set s = '1' * 500000 ~ 'x' %}{% for i in range(20000) %}{{ s|float }}{% endfor %}`,
		"nested fields":     `{{ ('{0:' ~ '{1}' * 20000 ~ '}').format('x', '') }}`,
		"attribute path":    `{{ [{}]|map(attribute='a.' * 5000)|list }}`,
		"sort paths":        `{{ [{}]|sort(attribute=',' * 400000) }}`,
		"front insertion":   `{% set l = [] %}{% for i in range(10**6) %}{% set _ = l.insert(0, i) %}{% endfor %}`,
	} {
		template, err := Parse(source, small)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		out, err := template.Render(NewDict(), RenderOptions{})
		if !errors.Is(err, ErrLimit) {
			t.Errorf("%s: got %.40q, %v, want a limit", name, out, err)
		}
	}
}

// TestExtremes renders what is extreme and still small: no limit, no wait, no panic.
func TestExtremes(t *testing.T) {
	for _, c := range []struct{ source, want string }{
		{`{{ '' * 9223372036854775807 }}{{ [] * 9223372036854775807 }}`, `[]`},
		{`{{ 5|round(-400) }} {{ 5.5|round(-400) }} {{ (-5.5)|round(-400) }}`, `0 0.0 -0.0`},
		{`{{ (17 * 10**307)|round(-308) == 2 * 10**308 }} {{ (10**400)|round(-399) == 10**400 }}`, `True True`},
		{`{{ 25|round(-1) }} {{ 35|round(-1) }} {{ (-25)|round(-1) }} {{ (-35)|round(-1) }} {{ 1251|round(-2) }} {{ 7|round(2) }}`, `20 40 -20 -40 1300 7`},
		{`{{ ('%.2000s' % ('ab' * 3000))|length }} {{ '{:.2000}'.format('ab' * 3000)|length }}`, `2000 2000`},
		{`{% set c = 'b' * 100000 ~ 'a' %}{{ ('a' * 1000000)|trim(c)|length }}`, `0`},
		{`{{ ('a\n' * 3).split('\n', 1) }} {{ ' a b c '.split(none, 1) }}`, `['a', 'a\na\n'] ['a', 'b c ']`},
	} {
		if got, err := render(t, c.source, NewDict(), nil); err != nil || got != c.want {
			t.Errorf("%s: got %.80q, %v, want %q", c.source, got, err, c.want)
		}
	}
}

// TestDefaultLimits shows that the default limits, too, end a rendering within seconds.
func TestDefaultLimits(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	if _, err := render(t, `{% for i in range(10**9) %}{{ i }}{% endfor %}`, NewDict(), nil); !errors.Is(err, ErrLimit) {
		t.Errorf("got %v, want a limit", err)
	}
}

// TestParseLimits refuses sources that nest too deep or are too long, without recursing into them.
func TestParseLimits(t *testing.T) {
	for name, source := range map[string]string{
		"parentheses":   "{{ " + strings.Repeat("(", 20_000) + " }}",
		"brackets":      "{{ " + strings.Repeat("[", 20_000) + " }}",
		"braces":        "{{ " + strings.Repeat("{1:", 20_000) + " }}",
		"calls":         "{{ " + strings.Repeat("f(", 20_000) + " }}",
		"subscripts":    "{{ " + strings.Repeat("a[", 20_000) + " }}",
		"not":           "{{ " + strings.Repeat("not ", 20_000) + "1 }}",
		"minus":         "{{ " + strings.Repeat("-", 20_000) + "1 }}",
		"sum":           "{{ 1" + strings.Repeat("+1", 20_000) + " }}",
		"attributes":    "{{ a" + strings.Repeat(".a", 20_000) + " }}",
		"filters":       "{{ a" + strings.Repeat("|e", 20_000) + " }}",
		"block filters": "{% filter e" + strings.Repeat("|e", 20_000) + " %}{% endfilter %}",
		"set filters":   "{% set a" + strings.Repeat("|e", 20_000) + " %}{% endset %}",
		"filter name":   "{{ a|a" + strings.Repeat(".a", 20_000) + " }}",
		"parameters":    "{% macro f(" + manyNames("a%d,", 1000) + "b) %}{% endmacro %}",
		"keywords":      "{{ f(" + manyNames("a%d=1,", 1000) + ") }}",
		"inline ifs":    "{{ a" + strings.Repeat(" if a", 20_000) + " }}",
		"else":          "{{ a" + strings.Repeat(" if a else a", 20_000) + " }}",
		"blocks":        strings.Repeat("{% if 1 %}", 10_000),
		"targets":       "{% for " + strings.Repeat("(", 20_000) + "a in b %}{% endfor %}",
		"test argument": "{{ a" + strings.Repeat(" is eq (a", 10_000) + " }}",
		"too long":      strings.Repeat("x", maxSourceBytes+1),
		"not UTF-8":     "a\xffb",
		"long integer":  "{{ " + strings.Repeat("9", 20_000) + " }}",
	} {
		if _, err := Parse(source, Options{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func manyNames(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func TestOptions(t *testing.T) {
	if _, err := Parse("", Options{MaxText: -1}); err == nil || !strings.Contains(err.Error(), "MaxText") {
		t.Errorf("got %v, want an error that names MaxText", err)
	}
}
