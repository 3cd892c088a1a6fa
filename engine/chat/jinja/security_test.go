package jinja

import (
	"errors"
	"strings"
	"testing"
)

// TestInjection runs what is used to break out of Jinja2 in Python. There is nothing to break out to: each ends in an
// error, or prints nothing of the kind.
func TestInjection(t *testing.T) {
	vars := parseVars(t, `{"messages": [{"role": "user", "content": "hi"}], "s": "text"}`)
	for _, payload := range []string{
		`{{ ''.__class__.__mro__[1].__subclasses__() }}`,
		`{{ ''.__class__.__base__.__subclasses__()[59].__init__.__globals__ }}`,
		`{{ [].__class__.__bases__[0] }}`,
		`{{ {}.__class__.__mro__[-1] }}`,
		`{{ ().__class__.__bases__[0].__subclasses__() }}`,
		`{{ messages.__class__.__init__.__globals__ }}`,
		`{{ self.__init__.__globals__.__builtins__ }}`,
		`{{ self._TemplateReference__context.cycler.__init__.__globals__.os.popen('id').read() }}`,
		`{{ cycler.__init__.__globals__.os.popen('id').read() }}`,
		`{{ joiner.__init__.__globals__.os.system('id') }}`,
		`{{ namespace.__init__.__globals__.os }}`,
		`{{ lipsum.__globals__['os'].popen('id').read() }}`,
		`{{ range.__self__.__import__('os') }}`,
		`{{ raise_exception.__globals__.x }}`,
		`{{ strftime_now.__globals__['sys'] }}`,
		`{{ ''|attr('__class__')|attr('__mro__')|attr('__getitem__')(1) }}`,
		`{{ ''['__cl' ~ 'ass__']['__mro__'] }}`,
		`{{ s['__class__'].__mro__ }}`,
		`{{ '{0.__class__.__mro__}'.format(s) }}`,
		`{{ '{0[__class__][__mro__]}'.format(s) }}`,
		`{{ s.format.__self__.__class__ }}`,
		`{{ '%(x)s' % s.__class__.__dict__ }}`,
		`{{ [s]|map(attribute='__class__.__mro__')|list }}`,
		`{{ [s]|map('attr', '__class__')|map('attr', '__mro__')|list|first() }}`,
		`{{ [s]|selectattr('__class__.__mro__')|list }}`,
		`{{ dict.__base__.__subclasses__() }}`,
		`{{ dict.mro() }}`,
		`{{ (s.upper).__self__.__class__ }}`,
		`{% set x = s.__class__ %}{{ x.mro() }}`,
		`{% macro m() %}{% endmacro %}{{ m.__globals__ .x }}`,
		`{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}`,
		`{% include '/etc/passwd' %}`,
		`{% import 'os' as os %}`,
		`{% from 'os' import popen %}`,
		`{% extends '/etc/passwd' %}`,
		`{{ __import__('os').popen('id').read() }}`,
		`{{ config.items() }}`,
		`{{ request.application.__globals__ }}`,
		`{{ get_flashed_messages.__globals__ }}`,
		`{{ url_for.__globals__ }}`,
		`{{ g.pop.__globals__ }}`,
		`{{ open('/etc/passwd').read() }}`,
		`{{ eval('1') }}`,
		`{{ exec('x') }}`,
		`{{ loop.__class__.x }}`,
		`{% for x in [1] %}{{ loop._iterator.gi_frame }}{{ loop.__class__.__init__ }}{% endfor %}`,
		`{{ ([1]|map('string')).gi_frame.f_back }}`,
		`{{ s.encode().__class__ }}`,
		`{{ s.items }}{{ s.meter.x }}`,
	} {
		out, err := render(t, payload, vars, nil)
		if err == nil {
			t.Errorf("%s: rendered %q", payload, out)
		}
		if strings.Contains(out, "class") || strings.Contains(out, "root:") {
			t.Errorf("%s: rendered %q", payload, out)
		}
	}
}

// TestFrozen refuses to change values that came from outside, which other renderings may be reading.
func TestFrozen(t *testing.T) {
	vars := parseVars(t, `{"l": [1], "d": {"a": 1}}`)
	for _, source := range []string{
		`{{ l.append(2) }}`, `{{ l.pop() }}`, `{{ l.clear() }}`, `{{ l.insert(0, 1) }}`, `{{ l.reverse() }}`, `{{ l.sort() }}`,
		`{{ l.extend([1]) }}`, `{{ l.remove(1) }}`, `{{ d.update(b=1) }}`, `{{ d.pop('a') }}`, `{{ d.clear() }}`,
		`{{ d.setdefault('b', 1) }}`, `{{ d.popitem() }}`,
	} {
		if out, err := render(t, source, vars, nil); !errors.Is(err, errFrozen) {
			t.Errorf("%s: got %q, %v, want a refusal", source, out, err)
		}
	}
	if got, _ := render(t, `{{ l }}{{ d }}`, vars, nil); got != `[1]{'a': 1}` {
		t.Errorf("the variables became %s", got)
	}
}

// TestChanging shows the methods that change what a template made itself, which the sandbox of Hugging Face refuses.
func TestChanging(t *testing.T) {
	for _, c := range []struct{ source, want string }{
		{`{% set l = [1, 2] %}{% set _ = l.append(3) %}{% set _ = l.insert(0, 0) %}{{ l }}{{ l.pop(0) }}{{ l.pop() }}{{ l }}`, `[0, 1, 2, 3]03[1, 2]`},
		{`{% set l = [2, 1] %}{% set _ = l.sort() %}{{ l }}{% set _ = l.reverse() %}{{ l }}{% set _ = l.extend((5,)) %}{% set _ = l.remove(1) %}{{ l }}{% set _ = l.clear() %}{{ l }}`, `[1, 2][2, 1][2, 5][]`},
		{`{% set d = {'a': 1} %}{% set _ = d.update({'b': 2}, c=3) %}{{ d }}{{ d.pop('a') }}{{ d.pop('zz', 9) }}{{ d.setdefault('e', 5) }}{{ d.popitem() }}{{ d }}`, `{'a': 1, 'b': 2, 'c': 3}195('e', 5){'b': 2, 'c': 3}`},
		{`{% set d = {'a': 1, 'b': 2, 'c': 3} %}{% set _ = d.pop('b') %}{{ d.c }}{{ d.a }}{% set _ = d.update(b=4) %}{{ d }}`, `31{'a': 1, 'c': 3, 'b': 4}`},
		{`{% set l = [1] %}{% set m = l.copy() %}{% set _ = m.append(2) %}{{ l }}{{ m }}`, `[1][1, 2]`},
	} {
		if got, err := render(t, c.source, NewDict(), nil); err != nil || got != c.want {
			t.Errorf("%s: got %q, %v, want %q", c.source, got, err, c.want)
		}
	}
}

// TestErrorsNameLines checks the line in errors of the parser, of the evaluation, and of raise_exception.
func TestErrorsNameLines(t *testing.T) {
	for _, c := range []struct {
		source string
		line   int
	}{
		{"a\nb{{ x y }}", 2},
		{"a\n{# c\nd #}\n{{ 'x'\n| nosuch }}", 5},
		{"{% if 1 %}\n\n{{ missing.x }}\n{% endif %}", 3},
		{"\n{%- raw %}\n\n{% endraw %}\n{{ 1 // 0 }}", 5},
		{"{% macro f(x) %}\n{{ x.y.z }}\n{% endmacro %}\n\n{{ f({}) }}", 2},
		{"\n\n{{ [1,\n2]|map('upper', 3)|list }}", 4},
		{"{% for x in [] %}\n{% endfor", 2},
	} {
		_, err := render(t, c.source, NewDict(), nil)
		var at *Error
		if !errors.As(err, &at) || at.Line != c.line {
			t.Errorf("%q: got %v, want an error in line %d", c.source, err, c.line)
		}
	}
	_, err := render(t, "\n{% if true %}\n{{ raise_exception('no ' ~ 'way') }}{% endif %}", NewDict(), nil)
	var raised *Raised
	if !errors.As(err, &raised) || raised.Line != 3 || err.Error() != "no way" {
		t.Errorf("got %v, want the message alone, from line 3", err)
	}
}
