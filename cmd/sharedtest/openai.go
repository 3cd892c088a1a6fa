package sharedtest

import (
	"bytes"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const openAI = "openapi.json"

// schemas are the schemas of OpenAI's API, compiled as they are asked for. The mutex guards both fields.
var schemas struct {
	sync.Mutex
	compiler *jsonschema.Compiler
}

// Validate fails t unless a JSON text matches a schema of OpenAI's API, such as "Response".
func Validate(t testing.TB, schema string, data []byte) {
	t.Helper()
	if err := match(t, schema, data); err != nil {
		t.Errorf("%s does not match the schema %s: %v", data, schema, err)
	}
}

// Matches reports whether a JSON text matches a schema of OpenAI's API.
func Matches(t testing.TB, schema string, data []byte) bool {
	t.Helper()
	return match(t, schema, data) == nil
}

func match(t testing.TB, schema string, data []byte) error {
	t.Helper()
	raw := ReadFile(t, "testdata", "openai", "openapi-subset.json")
	schemas.Lock()
	defer schemas.Unlock()
	if schemas.compiler == nil {
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		compiler := jsonschema.NewCompiler()
		if err := compiler.AddResource(openAI, doc); err != nil {
			t.Fatal(err)
		}
		schemas.compiler = compiler
	}
	compiled, err := schemas.compiler.Compile(openAI + "#/components/schemas/" + schema)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("%q: %v", data, err)
	}
	return compiled.Validate(value)
}
