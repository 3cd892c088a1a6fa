package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"hearth/engine"
	"hearth/engine/tokenizer"
)

func newTokenizeCommand() *cobra.Command {
	var (
		modelPath, text string
		asJSON, lines   bool
		opts            tokenizer.EncodeOptions
	)
	command := &cobra.Command{
		Use:   "tokenize [--model M] [TEXT]",
		Short: "Turn text into token ids",
		Long: `Prints the token ids of a text, separated by commas. Without TEXT or --text the text is all of standard input, byte for byte.

--json prints {"ids": […], "tokens": [{"id": …, "text": …}, …]}. --jsonl reads lines {"text": …} and prints a line
{"ids": […]} for each; text that is not UTF-8 is given as {"bytes": [numbers]} instead. In the output, the text of a
token that is not UTF-8, as half a character, has U+FFFD where it is not, and the token has its "bytes" too.

The model is a GGUF file, also one without tensors, a Hugging Face folder, or a tokenizer.json.`,
		Example: `  hearth tokenize --model tokenizer.json "Hello world"
  hearth tokenize --model model.gguf --jsonl < texts.jsonl > ids.jsonl`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			given := cmd.Flags().Changed("text")
			if len(args) > 0 {
				if given || lines {
					return errors.New("the text is given twice: TEXT, --text and --jsonl exclude each other")
				}
				text, given = args[0], true
			}
			tok, err := engine.OpenTokenizerPath(modelPath)
			if err != nil {
				return err
			}
			if lines {
				return eachLine(cmd.InOrStdin(), cmd.OutOrStdout(), func(in *textLine) (any, error) {
					text, err := in.text()
					return idsLine{nonNil(tok.Encode(text, opts))}, err
				})
			}
			if !given {
				data, err := io.ReadAll(cmd.InOrStdin())
				if err != nil {
					return err
				}
				text = string(data)
			}
			ids := tok.Encode(text, opts)
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), describeTokens(tok, ids))
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), joinIDs(ids))
			return err
		},
	}
	flags := command.Flags()
	flags.StringVar(&modelPath, "model", "", "model file, folder or tokenizer.json (default: the embedded model)")
	flags.StringVar(&text, "text", "", "text to encode (default: standard input)")
	flags.BoolVar(&opts.ParseSpecial, "parse-special", false, "recognise control tokens in the text")
	flags.BoolVar(&opts.AddSpecial, "add-special", false, "add the tokens that begin and end a text, if the model wants them")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	flags.BoolVar(&lines, "jsonl", false, "read and print JSON lines")
	command.MarkFlagsMutuallyExclusive("json", "jsonl")
	command.MarkFlagsMutuallyExclusive("text", "jsonl")
	return command
}

// textLine is a line of text: the text itself, or its bytes where it is not UTF-8.
type textLine struct {
	Text  *string `json:"text"`
	Bytes []int   `json:"bytes"`
}

func (l *textLine) text() (string, error) {
	if (l.Text == nil) == (l.Bytes == nil) {
		return "", errors.New(`want an object with either "text" or "bytes"`)
	}
	if l.Text != nil {
		return *l.Text, nil
	}
	text := make([]byte, len(l.Bytes))
	for i, b := range l.Bytes {
		if b < 0 || b > 0xFF {
			return "", fmt.Errorf(`"bytes": %d is not a byte`, b)
		}
		text[i] = byte(b)
	}
	return string(text), nil
}

type idsLine struct {
	IDs []int32 `json:"ids"`
}

// textAndBytes is a text in JSON, which holds UTF-8 only.
type textAndBytes struct {
	Text  string `json:"text"`            // U+FFFD for each part of a character
	Bytes []int  `json:"bytes,omitempty"` // only where the text is not UTF-8
}

func newTextAndBytes(raw []byte, text string) textAndBytes {
	out := textAndBytes{Text: text}
	if !utf8.Valid(raw) {
		for _, b := range raw {
			out.Bytes = append(out.Bytes, int(b))
		}
	}
	return out
}

type describedToken struct {
	ID int32 `json:"id"`
	textAndBytes
}

type describedTokens struct {
	IDs    []int32          `json:"ids"`
	Tokens []describedToken `json:"tokens"`
}

func describeTokens(tok *tokenizer.Tokenizer, ids []int32) describedTokens {
	out := describedTokens{IDs: nonNil(ids), Tokens: []describedToken{}}
	for _, id := range ids {
		raw := tok.AppendPiece(nil, id, tokenizer.PieceOptions{Special: true})
		out.Tokens = append(out.Tokens, describedToken{id, newTextAndBytes(raw, tokenizer.ValidText(raw))})
	}
	return out
}

// eachLine decodes every line of in, which is strictly one JSON object, and writes what answer makes of it. It stops at
// the first line that is wrong.
func eachLine[T any](in io.Reader, out io.Writer, answer func(*T) (any, error)) error {
	const maxLine = 256 << 20
	reader, writer := bufio.NewReader(in), bufio.NewWriter(out)
	defer writer.Flush()
	for number := 1; ; number++ {
		line, readErr := readLine(reader, maxLine)
		if readErr != nil && readErr != io.EOF {
			return fmt.Errorf("line %d: %w", number, readErr)
		}
		if len(bytes.TrimSpace(line)) > 0 {
			var value T
			err := decodeLine(line, &value)
			var result any
			if err == nil {
				result, err = answer(&value)
			}
			if err != nil {
				return fmt.Errorf("line %d: %w", number, err)
			}
			if err := writeJSON(writer, result); err != nil {
				return err
			}
		}
		if readErr == io.EOF {
			return nil
		}
		if reader.Buffered() == 0 { // whoever feeds the lines may wait for the answer
			if err := writer.Flush(); err != nil {
				return err
			}
		}
	}
}

func decodeLine(line []byte, value any) error {
	if !utf8.Valid(line) {
		return errors.New("is not UTF-8")
	}
	return json.Unmarshal(line, value)
}

// readLine returns the next line with its end, or io.EOF together with the last one.
func readLine(reader *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := reader.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > limit {
			return nil, fmt.Errorf("is longer than %d bytes", limit)
		}
		if err != bufio.ErrBufferFull {
			return line, err
		}
	}
}

func writeJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

func joinIDs(ids []int32) string {
	fields := make([]string, len(ids))
	for i, id := range ids {
		fields[i] = strconv.Itoa(int(id))
	}
	return strings.Join(fields, ",")
}

// nonNil makes JSON print an empty list rather than null.
func nonNil(ids []int32) []int32 {
	if ids == nil {
		return []int32{}
	}
	return ids
}
