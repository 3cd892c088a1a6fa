package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Roles of messages.
const (
	roleSystem    = "system"
	roleUser      = "user"
	roleAssistant = "assistant"
)

// message is one message of a conversation, on the wire and in files.
type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// conversation is what has been said.
type conversation struct {
	system   string    // empty: none
	messages []message // of the user and the assistant
}

// all returns the messages as the model gets them. The result does not share memory with the conversation.
func (c *conversation) all() []message {
	var all []message
	if c.system != "" {
		all = append(all, message{roleSystem, c.system})
	}
	return append(all, c.messages...)
}

// encodeMessages returns each message as JSON.
func encodeMessages(messages []message) []json.RawMessage {
	raw := make([]json.RawMessage, len(messages))
	for i := range messages {
		data, err := json.Marshal(&messages[i])
		if err != nil {
			panic("cmd: " + err.Error()) // two strings
		}
		raw[i] = data
	}
	return raw
}

// maxConversationBytes bounds what is read into memory.
const maxConversationBytes = 64 << 20

// save writes the messages as a JSON array, aside first, so that the file is whole or as before. A file that is not a
// conversation is not overwritten.
func (c *conversation) save(path string) error {
	if _, err := readConversation(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("not overwritten: %w", err)
	}
	var data bytes.Buffer
	encoder := json.NewEncoder(&data)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	all := c.all()
	if all == nil {
		all = []message{}
	}
	if err := encoder.Encode(all); err != nil {
		return err
	}
	return savePrivate(path, data.Bytes())
}

// readConversation reads a JSON array of messages. Errors name the message that is wrong.
func readConversation(path string) (*conversation, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxConversationBytes {
		return nil, fmt.Errorf("%s is not a regular file of at most %d bytes", path, maxConversationBytes)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c, err := parseConversation(data)
	if err != nil {
		return nil, fmt.Errorf("%s is not a conversation: %w", path, err)
	}
	return c, nil
}

func parseConversation(data []byte) (*conversation, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	var raw []json.RawMessage
	if err := decoder.Decode(&raw); err != nil {
		return nil, fmt.Errorf("want an array of messages: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("there is something after the array of messages")
	}
	c := &conversation{}
	for i := range raw {
		m, err := parseMessage(raw[i])
		if err != nil {
			return nil, fmt.Errorf("message %d: %w", i, err)
		}
		switch m.Role {
		case roleUser, roleAssistant:
			c.messages = append(c.messages, m)
		case roleSystem:
			if i != 0 {
				return nil, fmt.Errorf("message %d: a system message must be the first one", i)
			}
			c.system = m.Content
		default:
			return nil, fmt.Errorf("message %d: role is %q, want %s, %s or %s", i, m.Role, roleSystem, roleUser, roleAssistant)
		}
	}
	return c, nil
}

// parseMessage refuses fields it would lose.
func parseMessage(raw json.RawMessage) (message, error) {
	var m struct {
		Role    *string `json:"role"`
		Content *string `json:"content"`
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&m); err != nil {
		return message{}, err
	}
	if m.Role == nil || m.Content == nil {
		return message{}, errors.New("want role and content, both of them strings")
	}
	return message{*m.Role, *m.Content}, nil
}

// expandHome replaces ~/ at the beginning of a path, which here no shell does.
func expandHome(path string) (string, error) {
	rest, ok := strings.CutPrefix(path, "~/")
	if !ok {
		return path, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, rest), nil
}
