package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"hearth/engine"
	"hearth/engine/tokenizer"
)

func newDetokenizeCommand() *cobra.Command {
	var (
		modelPath, list string
		asJSON, lines   bool
	)
	command := &cobra.Command{
		Use:   "detokenize [--model M] [--ids 1,2]",
		Short: "Turn token ids into text",
		Long: `Prints the text of a sequence of token ids, control tokens included, and a line feed. Without --ids they are read from
standard input, as tokenize prints them.

--json prints {"text": …}. --jsonl reads lines {"ids": […]} and prints a line {"text": …} for each. Tokens may hold parts
of characters, and JSON holds UTF-8 only: where the text is not UTF-8, "text" has U+FFFD for each part of a character,
and "bytes" is the list of its bytes.

The model is a GGUF file, also one without tensors, a Hugging Face folder, or a tokenizer.json.`,
		Example: "  hearth detokenize --model tokenizer.json --ids 9707,1879",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			tok, err := engine.OpenTokenizerPath(modelPath)
			if err != nil {
				return err
			}
			if lines {
				return eachLine(cmd.InOrStdin(), cmd.OutOrStdout(), func(in *idsLine) (any, error) {
					if in.IDs == nil {
						return nil, fmt.Errorf(`want an object with "ids"`)
					}
					return detokenize(tok, in.IDs)
				})
			}
			source := "--ids"
			if !cmd.Flags().Changed("ids") {
				data, err := io.ReadAll(cmd.InOrStdin())
				if err != nil {
					return err
				}
				list, source = strings.TrimSpace(string(data)), "standard input"
			}
			var ids []int32
			if strings.TrimSpace(list) != "" {
				if ids, err = parseInts(list); err != nil {
					return fmt.Errorf("%s: %w", source, err)
				}
			}
			text, err := detokenize(tok, ids)
			if err != nil {
				return fmt.Errorf("%s: %w", source, err)
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), text)
			}
			raw := tok.AppendDecoded(nil, ids, tokenizer.PieceOptions{Special: true})
			_, err = cmd.OutOrStdout().Write(append(raw, '\n'))
			return err
		},
	}
	flags := command.Flags()
	flags.StringVar(&modelPath, "model", "", "model file, folder or tokenizer.json (default: the embedded model)")
	flags.StringVar(&list, "ids", "", "token ids, separated by commas (default: standard input)")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	flags.BoolVar(&lines, "jsonl", false, "read and print JSON lines")
	command.MarkFlagsMutuallyExclusive("json", "jsonl")
	command.MarkFlagsMutuallyExclusive("ids", "jsonl")
	return command
}

// detokenize returns the text of ids, or an error that names the first id outside the vocabulary.
func detokenize(tok *tokenizer.Tokenizer, ids []int32) (textAndBytes, error) {
	for i, id := range ids {
		if !tok.Valid(id) {
			return textAndBytes{}, fmt.Errorf("token %d at position %d is not in the vocabulary of %d", id, i, tok.VocabSize())
		}
	}
	raw := tok.AppendDecoded(nil, ids, tokenizer.PieceOptions{Special: true})
	return newTextAndBytes(raw, tokenizer.ValidText(raw)), nil
}
