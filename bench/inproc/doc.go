// Package inproc measures the engine from inside the process: whole models and single kernels, each beside the bounds of
// the machine as they are in the same seconds, since memory bandwidth and clocks drift by tenths from minute to minute.
package inproc
