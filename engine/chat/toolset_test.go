package chat

import (
	"encoding/json"
	"testing"
)

func TestJSONValue(t *testing.T) {
	for _, test := range []struct {
		text    string
		allowed types
		want    string
	}{
		{"12", stringType, `"12"`},
		{"12", numberType, `12`},
		{" 12\n", numberType | stringType, `12`},
		{"012", numberType, `"012"`},
		{"12", booleanType, `"12"`},
		{"TRUE", booleanType, `true`},
		{"None", nullType | stringType, `null`},
		{"None", numberType, `"None"`},
		{"", anyType, `""`},
		{"a\"b\\\n\x01", anyType, `"a\"b\\\n\u0001"`},
		{`"quoted"`, anyType, `"\"quoted\""`},
		{`{"a": [1]}`, anyType, `{"a": [1]}`},
		{`{"a": [1]}`, arrayType | stringType, `"{\"a\": [1]}"`},
		{`{'a': [1, True, None, "it's", '\n\x41']}`, objectType, `{"a": [1, true, null, "it's", "\nA"]}`},
		{`{'a': b}`, objectType, `"{'a': b}"`},
		{`[Trues]`, arrayType, `"[Trues]"`},
		{`['`, arrayType, `"['"`},
	} {
		got := jsonValue(test.text, test.allowed)
		if got != test.want || !json.Valid([]byte(got)) {
			t.Errorf("jsonValue(%q, %b) = %s, want %s", test.text, test.allowed, got, test.want)
		}
	}
}

func TestSchemaTypes(t *testing.T) {
	for _, test := range []struct {
		schema string
		want   types
	}{
		{`{"type": "string"}`, stringType},
		{`{"type": ["integer", "null"]}`, numberType | nullType},
		{`{}`, anyType},
		{`{"type": "colour"}`, anyType},
		{`{"enum": ["a", 1]}`, stringType | numberType},
		{`{"anyOf": [{"type": "string"}, {"type": "null"}]}`, stringType | nullType},
		{`{"allOf": [{"type": ["string", "null"]}, {"type": "string"}]}`, stringType},
		{`{"$ref": "#/$defs/text"}`, stringType},
		{`{"$ref": "#/$defs/loop"}`, anyType},
		{`{"$ref": "#/$defs/none"}`, anyType},
		{`{"$ref": "elsewhere"}`, anyType},
		{`{"type": "string", "anyOf": [{"type": "null"}]}`, anyType}, // nothing is both
		{`true`, anyType},
	} {
		tools, err := ParseTools([]byte(`[{"function": {"name": "f", "parameters": {"$defs": {"text": {"type": "string"}, "loop": {"$ref": "#/$defs/loop"}},
			"properties": {"x": ` + test.schema + `}}}}]`))
		if err != nil {
			t.Fatal(err)
		}
		if got := newToolSet(tools).parameters("f").property("x").types(); got != test.want {
			t.Errorf("%s: got types %b, want %b", test.schema, got, test.want)
		}
	}
	if got := (toolSet{}).parameters("f").property("x").types(); got != anyType {
		t.Errorf("an unknown tool's parameter has types %b", got)
	}
}
