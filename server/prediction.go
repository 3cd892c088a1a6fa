package server

// predictionFields is the object prediction: a text that much of the answer is expected to repeat, such as a file that is
// to be edited. It makes the answer faster where it does, and never another one.
var predictionFields = []field[generation]{
	{name: "type", use: honoured, read: func(_ *generation, v value) error {
		_, err := v.oneOf("content")
		return err
	}},
	{name: "content", use: honoured, read: readPredicted},
}

func readPrediction(g *generation, v value) error {
	g.turn.Expected = ""
	members, err := v.members()
	if err != nil {
		return err
	}
	for _, required := range []string{"type", "content"} {
		if !hasMember(members, required) {
			return missing(memberPath(v.path, required))
		}
	}
	return decode(predictionFields, v, g)
}

func hasMember(members []member, name string) bool {
	for _, m := range members {
		if m.name == name && !m.isNull() {
			return true
		}
	}
	return false
}

// readPredicted reads a string or an array of text parts, whose texts belong together.
func readPredicted(g *generation, v value) error {
	if v.isText() {
		s, err := v.text()
		g.turn.Expected = s
		return err
	}
	if err := readContent(&message{parts: []string{"text"}}, v); err != nil {
		return err
	}
	parts, err := v.elements()
	if err != nil {
		return err
	}
	for _, part := range parts {
		members, err := part.members()
		if err != nil {
			return err
		}
		for _, m := range members {
			if m.name != "text" {
				continue
			}
			s, err := m.text()
			if err != nil {
				return err
			}
			g.turn.Expected += s
		}
	}
	return nil
}
