package items

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Item is one element of a conversation.
type Item struct {
	ID     string
	Type   string          // "message", "function_call", …
	Role   string          // of messages
	Status string          // "completed", "incomplete", "in_progress"; empty where the type has none
	JSON   json.RawMessage // the whole item, its id and status included
	Text   string          // what the item says, for search
}

// Reason says which kind of mistake an Error reports.
type Reason uint8

// The reasons.
const (
	Invalid     Reason = iota // the value is of the right type and not allowed
	WrongType                 // the value is of another JSON type than the field's
	Missing                   // the field is required
	Unknown                   // there is no such field
	Unsupported               // the field or value asks for what this server cannot do
)

// Error says which field of the input is wrong.
type Error struct {
	Field  string // "input[2].content[0].type"
	Reason Reason
	Text   string // what is wrong with it; follows the field's name in a sentence
}

// Error returns the field's name and what is wrong with it.
func (e *Error) Error() string { return e.Field + " " + e.Text }

func invalid(path, format string, args ...any) error {
	return &Error{path, Invalid, fmt.Sprintf(format, args...)}
}

func missing(path string) error { return &Error{path, Missing, "is required"} }

func unsupported(path, reason string) error {
	return &Error{path, Unsupported, "is not supported: " + reason}
}

// Parser reads items that a client sent.
type Parser struct {
	// NewID returns a new id that begins with the prefix. It is asked for every item that comes without one.
	NewID func(prefix string) string
	// Resolve finds the item that an item_reference names, and says whether there is one. Its errors are returned as they are;
	// nil refuses references.
	Resolve func(id string) (item Item, ok bool, err error)
}

// Parse reads the input of a request: a string, which is a user's message, or an array of items. The path is where the input
// was found, such as "input", and begins the field of errors. Input that is not well-formed JSON is an error too.
//
// Every type of input item is checked field by field. A compaction_trigger is returned as the last item, without an id. Items
// never share an id.
func (p *Parser) Parse(path string, raw json.RawMessage) ([]Item, error) {
	raw = bytes.TrimSpace(raw)
	if !utf8.Valid(raw) || !json.Valid(raw) {
		return nil, invalid(path, "is not well-formed JSON in UTF-8")
	}
	switch raw[0] {
	case '"':
		message := fmt.Sprintf(`{"type":"message","role":"user","content":%s}`, raw)
		item, err := p.item(path, json.RawMessage(message))
		if err != nil {
			return nil, err
		}
		return []Item{item}, nil
	case '[':
	default:
		return nil, wrongType(path, "a string or an array of items", raw)
	}
	var list []Item
	seen := map[string]bool{}
	err := elements(path, raw, func(path string, raw json.RawMessage) error {
		if n := len(list); n > 0 && list[n-1].Type == typeTrigger {
			return invalid(path, "comes after a compaction_trigger, which must be the last item")
		}
		item, err := p.item(path, raw)
		if err != nil {
			return err
		}
		if item.ID != "" && seen[item.ID] {
			return invalid(path+".id", "is %q, as that of an earlier item", shorten(item.ID))
		}
		seen[item.ID] = true
		list = append(list, item)
		return nil
	})
	return list, err
}

const (
	typeMessage   = "message"
	typeReference = "item_reference"
	typeTrigger   = "compaction_trigger"
)

// ParseItem reads one item, as Parse reads those of an array.
func (p *Parser) ParseItem(path string, raw json.RawMessage) (Item, error) {
	raw = bytes.TrimSpace(raw)
	if !utf8.Valid(raw) || !json.Valid(raw) {
		return Item{}, invalid(path, "is not well-formed JSON in UTF-8")
	}
	return p.item(path, raw)
}

// item reads one item.
func (p *Parser) item(path string, raw json.RawMessage) (Item, error) {
	o, err := readObject(path, raw)
	if err != nil {
		return Item{}, err
	}
	name, err := o.typeName()
	if err != nil {
		return Item{}, err
	}
	if name == typeReference {
		return p.reference(&o)
	}
	k := kinds[name]
	switch {
	case k == nil:
		return Item{}, invalid(path+".type", "is %q, which is no type of item", shorten(name))
	case k.refusal != "":
		return Item{}, unsupported(path+".type", name+": "+k.refusal)
	}
	if err := o.check(k.fields); err != nil {
		return Item{}, err
	}
	if o.text("status") == "" && k.status {
		o.set("status", json.RawMessage(`"completed"`))
	}
	if k.finish != nil {
		if err := k.finish(&o); err != nil {
			return Item{}, err
		}
	}
	id := o.text("id")
	if id == "" && k.prefix != "" {
		id = p.NewID(k.prefix)
	}
	return Read(o.encode(name, id))
}

// reference reads an item_reference and returns what it refers to.
func (p *Parser) reference(o *object) (Item, error) {
	if err := o.check([]field{{name: "type", read: exactly(typeReference)}, {name: "id", required: true, read: text(1, maxID)}}); err != nil {
		return Item{}, err
	}
	if p.Resolve == nil {
		return Item{}, unsupported(o.path, "there are no stored items to refer to")
	}
	item, ok, err := p.Resolve(o.text("id"))
	if err == nil && !ok {
		err = invalid(o.path+".id", "names no stored item: %q", shorten(o.text("id")))
	}
	return item, err
}

// Read takes the parts of a complete item, such as one that was stored. It checks no more than that they are there.
func Read(raw json.RawMessage) (Item, error) {
	var head struct{ ID, Type, Role, Status string }
	if err := json.Unmarshal(raw, &head); err != nil {
		return Item{}, fmt.Errorf("items: %w", err)
	}
	if head.Type == "" || head.ID == "" && head.Type != typeTrigger {
		return Item{}, fmt.Errorf("items: %s has no type or no id", shorten(string(raw)))
	}
	item := Item{ID: head.ID, Type: head.Type, Status: head.Status, JSON: raw}
	if head.Type == typeMessage {
		item.Role = head.Role
	}
	var err error
	item.Text, err = searchText(head.Type, raw)
	return item, err
}

// searchText joins what the item says, in the order in which it says it.
func searchText(name string, raw json.RawMessage) (string, error) {
	k := kinds[name]
	if k == nil || k.said == nil {
		return "", nil
	}
	var f fields
	if err := json.Unmarshal(raw, &f); err != nil {
		return "", fmt.Errorf("items: %s: %w", name, err)
	}
	var said []string
	for _, s := range k.said(&f) {
		if s != "" {
			said = append(said, s)
		}
	}
	return strings.Join(said, "\n"), nil
}

// shorten keeps complaints short, however long what a client sent.
func shorten(s string) string {
	const most = 64
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "…"
}
