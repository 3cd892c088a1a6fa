package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"

	"hearth/engine/api"
	"hearth/engine/sample"
)

// settings say how answers are drawn.
type settings struct {
	sampling  api.Sampling // its Seed is not used
	seed      uint64
	fixedSeed bool // seed is used; otherwise every answer has a random one
	maxTokens int  // most tokens of an answer; 0: until the context is full
}

// defaultSettings are usual values for chat: they cut off the unlikely tokens that small models stumble over.
func defaultSettings() settings {
	return settings{sampling: api.Sampling{Temperature: 0.8, TopK: 40, TopP: 0.95}}
}

// nextSeed returns the seed of an answer's n-th attempt: another draw needs another seed.
func (s *settings) nextSeed(attempt uint64) uint64 {
	if s.fixedSeed {
		return s.seed + attempt
	}
	return rand.Uint64()
}

// setting is one value that a flag and the command /set change.
type setting struct {
	name string // as on the wire: "top_p"
	help string
	get  func(*settings) string
	set  func(*settings, string) error // a value that is refused changes nothing
}

var settingList = []setting{
	numberSetting("temperature", "how freely to draw; 0: always the most probable token",
		func(s *settings) *float32 { return &s.sampling.Temperature }),
	numberSetting("top_p", "draw from the most probable tokens of this sum; 1: all",
		func(s *settings) *float32 { return &s.sampling.TopP }),
	countSetting("top_k", "draw from this many most probable tokens; 0: all",
		func(s *settings) *int { return &s.sampling.TopK }),
	numberSetting("min_p", "draw from tokens this probable beside the best; 0: all",
		func(s *settings) *float32 { return &s.sampling.MinP }),
	{"seed", "equal seeds draw alike; random: another for each answer", getSeed, setSeed},
	countSetting("max_tokens", "most tokens of an answer; 0: until the context is full",
		func(s *settings) *int { return &s.maxTokens }),
}

// settingNamed finds a setting.
func settingNamed(name string) (*setting, bool) {
	for i := range settingList {
		if settingList[i].name == name {
			return &settingList[i], true
		}
	}
	return nil, false
}

// numberSetting is a setting that has fractions.
func numberSetting(name, help string, place func(*settings) *float32) setting {
	get := func(s *settings) string { return strconv.FormatFloat(float64(*place(s)), 'g', -1, 32) }
	set := func(s *settings, text string) error {
		value, err := strconv.ParseFloat(text, 32)
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		changed := *s
		*place(&changed) = float32(value)
		return s.accept(&changed)
	}
	return setting{name, help, get, set}
}

// countSetting is a setting that counts.
func countSetting(name, help string, place func(*settings) *int) setting {
	get := func(s *settings) string { return strconv.Itoa(*place(s)) }
	set := func(s *settings, text string) error {
		value, err := strconv.Atoi(text)
		if err != nil || value < 0 {
			return fmt.Errorf("%q is not a whole number of at least 0", text)
		}
		changed := *s
		*place(&changed) = value
		return s.accept(&changed)
	}
	return setting{name, help, get, set}
}

// accept takes over changed settings if the sampler does.
func (s *settings) accept(changed *settings) error {
	if _, err := sample.New(changed.sampling, 1); err != nil {
		if field := (*api.FieldError)(nil); errors.As(err, &field) {
			return errors.New(field.Reason)
		}
		return err
	}
	*s = *changed
	return nil
}

const randomSeed = "random"

func getSeed(s *settings) string {
	if !s.fixedSeed {
		return randomSeed
	}
	return strconv.FormatUint(s.seed, 10)
}

func setSeed(s *settings, text string) error {
	if text == randomSeed {
		s.fixedSeed = false
		return nil
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return fmt.Errorf("%q is neither a whole number below 2^64 nor %s", text, randomSeed)
	}
	s.seed, s.fixedSeed = seed, true
	return nil
}

// settingFlag makes a flag of a setting.
type settingFlag struct {
	setting  *setting
	settings *settings
}

// String is part of pflag.Value.
func (f settingFlag) String() string {
	if f.settings == nil {
		return ""
	}
	return f.setting.get(f.settings)
}

// Set is part of pflag.Value.
func (f settingFlag) Set(text string) error { return f.setting.set(f.settings, text) }

// Type is part of pflag.Value.
func (f settingFlag) Type() string { return "value" }
