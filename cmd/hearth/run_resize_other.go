//go:build !unix

package main

import "os"

// notifyResize does nothing: there is no such signal here, and the size is asked for at each prompt.
func notifyResize(chan<- os.Signal) {}
