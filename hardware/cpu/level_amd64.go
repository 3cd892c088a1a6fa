//go:build !purego

package cpu

// assemblyLevels lists the levels written in assembly that this machine runs, best first.
func assemblyLevels() []level { return nil }
