//go:build !linux

package cpu

// yieldProcessor would let the system run another thread on this processor; here the scheduler is left to find out.
func yieldProcessor() {}
