package server

import (
	"fmt"
	"runtime"
	"testing"
)

func TestVersion(t *testing.T) {
	a := sharedServer(t).get("/version")
	want := fmt.Sprintf(`{"version":"test","go":%q,"platform":"%s/%s"}`+"\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if a.status != 200 || string(a.body) != want {
		t.Errorf("%d %s, want %s", a.status, a.body, want)
	}
}
