package cpu

// Levels names the levels that this machine runs.
func Levels() []string { return availableLevels() }
