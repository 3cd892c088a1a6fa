//go:build !linux

package disk

import "os"

// advise does nothing: the system reads when it is asked to.
func advise(*os.File, int64, int64) {}
