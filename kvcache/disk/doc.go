// Package disk keeps the bytes of cache blocks and states in files, so that what was computed outlives the process.
//
// A record is found by its key, a keyed hash of everything that its bytes depend on: equal prefixes are stored once, and
// a record that is damaged, cut short or written for another model is a miss, never a wrong answer. Records are encrypted,
// each tenant's with a key of its own. The package knows nothing about tokens, models or devices.
package disk
