package cpu

import "hearth/hardware"

// Levels names the levels that this machine runs.
func Levels() []string { return availableLevels() }

// BusyPhases returns how many phases of a queue's last section had work in the last step: so many barriers it had.
func BusyPhases(q hardware.Queue) int {
	n := 0
	for _, op := range q.(*queue).current {
		if op.items(&q.(*queue).step) > 0 {
			n++
		}
	}
	return n
}
