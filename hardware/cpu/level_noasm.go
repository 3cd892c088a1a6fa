//go:build !(amd64 || arm64) || purego

package cpu

// assemblyLevels is empty where there are no kernels in assembly.
func assemblyLevels() []level { return nil }
