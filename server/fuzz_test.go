package server

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"hearth/engine"
	"hearth/engine/embedded"
)

// FuzzBody sends arbitrary bodies to every POST route: whatever they are, the answer is a success or the client's
// fault, in JSON, and the engine lives.
func FuzzBody(f *testing.F) {
	for _, tr := range transcripts {
		for _, c := range tr.cases {
			if c.method == "POST" {
				f.Add(c.path, c.body)
			}
		}
	}
	for _, body := range []string{
		`{"model":"stories260k","prompt":[0,1,2,511],"max_tokens":1,"logit_bias":{"511":100}}`,
		`{"model":"stories260k","prompt":"<s></s>\u0000\ud800","max_tokens":2147483647}`,
		`{"model":"stories260k","prompt":"x","n":128,"best_of":20}`,
		`{"model":"stories260k","prompt":["a",["b"]],"seed":-9223372036854775808}`,
	} {
		f.Add("/v1/completions", body)
	}
	s := startServer(f, Options{}, engine.Options{ContextLength: 64, MaxSequences: 4})
	f.Fuzz(func(t *testing.T, path, body string) {
		found := false
		for _, r := range routes(&s.opts) {
			found = found || r.method == "POST" && r.path == path
		}
		if !found {
			t.Skip()
		}
		resp, err := http.Post(s.url+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode >= 500 {
			t.Fatalf("%s %q = %d %s", path, body, resp.StatusCode, data)
		}
		if resp.StatusCode >= 400 && !json.Valid(data) {
			t.Fatalf("%s %q = %d %q, which is not JSON", path, body, resp.StatusCode, data)
		}
		if strings.Contains(string(data), `"server_error"`) {
			t.Fatalf("%s %q = %s", path, body, data)
		}
		if _, err := s.store.Model(embedded.Name); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzValue checks the reader of bodies against encoding/json: what it accepts has each key once, and its parts are
// what encoding/json finds.
func FuzzValue(f *testing.F) {
	for _, seed := range []string{
		`{}`, `[]`, `{"a":1}`, `{"a":1,"a":2}`, `{"a":{"b":[1,{"c":"\"}"}]},"d":null}`, `[[],{},"",[""]]`, ` {"a" : [ 1 , 2 ] } `,
		`{"\u0061":1,"a":2}`, `"a\\"`, `{"a":"\\","b":"]"}`, `1e400`, `-0.0`, `true`, `{"":{"":1}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := parseValue(data)
		if err != nil {
			return
		}
		switch {
		case v.isObject():
			members, err := v.members()
			var want map[string]json.RawMessage
			if err != nil || json.Unmarshal(data, &want) != nil || len(want) != len(members) {
				t.Fatalf("%q: %d members, %v, want %d", data, len(members), err, len(want))
			}
			for _, m := range members {
				if string(want[m.name]) != string(m.raw) {
					t.Fatalf("%q: member %q is %q, want %q", data, m.name, m.raw, want[m.name])
				}
			}
		case v.isArray():
			elements, err := v.elements()
			var want []json.RawMessage
			if err != nil || json.Unmarshal(data, &want) != nil || len(want) != len(elements) {
				t.Fatalf("%q: %d elements, %v, want %d", data, len(elements), err, len(want))
			}
			for i, e := range elements {
				if string(want[i]) != string(e.raw) {
					t.Fatalf("%q: element %d is %q, want %q", data, i, e.raw, want[i])
				}
			}
		case v.isText():
			if _, err := v.text(); err != nil {
				t.Fatal(err)
			}
		case v.isNumber():
			v.integer(-5, 5)
			v.number(-5, 5)
		}
	})
}
