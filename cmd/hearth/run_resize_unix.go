//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// notifyResize sends a signal whenever the terminal gets another size.
func notifyResize(resized chan<- os.Signal) { signal.Notify(resized, syscall.SIGWINCH) }
