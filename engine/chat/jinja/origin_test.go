package jinja

import (
	"strings"
	"testing"
)

// Marks that no test text contains.
const (
	openMark  = "\ue000"
	closeMark = "\ue001"
)

func markRun(run string) string { return openMark + run + closeMark }

func unmark(s string) string { return strings.NewReplacer(openMark, "", closeMark, "").Replace(s) }

// TestOrigin shows which part of each output came from outside, in square brackets.
func TestOrigin(t *testing.T) {
	vars := parseVars(t, `{"x": " Ab c ", "y": "u,v", "l": ["p", "q"], "d": {"k": "v\n", "n": 1.5}, "f": "%s-%%", "g": "{}!", "h": "{:<>5}"}`)
	for _, c := range []struct{ template, want string }{
		{`{{ x }}`, `[ Ab c ]`},
		{`<{{ x }}>`, `<[ Ab c ]>`},
		{`{{ x }}{{ y }}`, `[ Ab c u,v]`},
		{`{{ 'a' ~ x ~ 'b' }}`, `a[ Ab c ]b`},
		{`{{ 'a' + x.strip() + 'b' }}`, `a[Ab c]b`},
		{`{{ x|trim|upper ~ '!' }}`, `[AB C]!`},
		{`{{ ('<' ~ x ~ '>')|lower|replace('b', 'B') }}`, `<[ a]B[ c ]>`},
		{`{{ ('<' ~ y ~ '>')[1:] }}`, `[u,v]>`},
		{`{{ ('<' ~ y ~ '>')[::-1] }}`, `>[v,u]<`},
		{`{{ ('<' ~ y ~ '>').split(',')|join(' + ') }}`, `<[u] + [v]>`},
		{`{{ y.split(',')[-1] }}`, `[v]`},
		{`{{ '%s/%s' % (y, 'z') }}`, `[u,v]/z`},
		{`{{ f % 'z' }}`, `z[-%]`},
		{`{{ g.format('z') }}`, `z[!]`},
		{`{{ '{}:{:>5}'.format(y, y) }}`, `[u,v]:  [u,v]`},
		{`{{ h.format('z') }}`, `[<<<<]z`},
		{`{{ d|tojson }}`, `{"[k]": "[v\n]", "[n]": 1.5}`},
		{`{{ {'t': y}|tojson }}`, `{"t": "[u,v]"}`},
		{`{{ d }}`, `{'[k]': '[v\n]', '[n]': 1.5}`},
		{`{{ (l[0], l[1]) }}`, `('[p]', '[q]')`},
		{`{{ l|join(', ') }}`, `[p], [q]`},
		{`{{ y.join(['<', '>']) }}`, `<[u,v]>`},
		{`{% for c in y %}{{ c }}.{% endfor %}`, `[u].[,].[v].`},
		{`{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}`, "[k]=[v\n];[n]=1.5;"},
		{`{% set s %}<{{ y }}>{% endset %}{{ s|upper }}`, `<[U,V]>`},
		{`{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m(y) ~ m('z') }}`, `<[u,v]><z>`},
		{`{% filter title %}a {{ y }}{% endfilter %}`, `A [U,v]`},
		{`{% set ns = namespace(t='') %}{% for i in l %}{% set ns.t = ns.t + '<' + i + '>' %}{% endfor %}{{ ns.t }}`, `<[p]><[q]>`},
		{`{{ y == 'u,v' }} {{ 'u' in y }} {{ y.startswith('u') }} {{ {'u,v': 1}[y] }}`, `True True True 1`},
		{`{{ y|length }}`, `3`},
		{`{{ '{"a": "b"}'|from_json }}`, `{'[a]': '[b]'}`},
		{`{{ y|indent(2, true) }}`, `  [u,v]`},
		{`{{ y.center(7, '*') }}`, `**[u,v]**`},
		{`{{ y|truncate(2, true, '…', 0) }}`, `[u]…`},
		{`{{ ('a' ~ y)|title }}`, `A[u,v]`},
		{`{{ y|e ~ '<'|e }}`, `[u,v]&lt;`},
		{`{{ y|default('z') }}{{ nothing|default(y) }}`, `[u,vu,v]`},
	} {
		want := strings.NewReplacer("[", openMark, "]", closeMark).Replace(c.want)
		got, err := render(t, c.template, vars, markRun)
		if err != nil || got != want {
			t.Errorf("%s:\ngot  %q, %v\nwant %q", c.template, got, err, want)
		}
	}
}

// TestGuardChangesNothing renders every language case with a guard; without its marks the output is the same.
func TestGuardChangesNothing(t *testing.T) {
	vars, cases := languageCases(t)
	for _, c := range cases {
		plain, plainErr := render(t, c.Template, vars, nil)
		guarded, err := render(t, c.Template, vars, markRun)
		if (err == nil) != (plainErr == nil) || unmark(guarded) != plain {
			t.Errorf("%q: with a guard %q, %v, without %q, %v", c.Template, guarded, err, plain, plainErr)
		}
	}
}
