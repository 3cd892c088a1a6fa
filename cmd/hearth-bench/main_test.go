package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestStandsAlone checks that the load tester holds nothing of the engine: it must measure other servers without taste.
func TestStandsAlone(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	found := false
	for dependency := range strings.FieldsSeq(string(out)) {
		switch {
		case dependency == "hearth/bench/load":
			found = true
		case strings.HasPrefix(dependency, "hearth/") && dependency != "hearth/cmd/hearth-bench":
			t.Errorf("depends on %s", dependency)
		}
	}
	if !found {
		t.Error("does not depend on hearth/bench/load: the check looks at the wrong package")
	}
}
