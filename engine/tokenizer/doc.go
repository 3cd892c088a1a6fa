// Package tokenizer turns text into token ids and back.
//
// Two kinds of vocabulary are read, from GGUF metadata (FromMetadata) or from a Hugging Face tokenizer.json (FromJSON):
//
//   - byte-level BPE (GPT-2 and everything after it): a pre-tokenizer cuts the text into pieces, and within a piece
//     the pair of neighbours that comes first in the list of merges is joined until no pair is listed;
//   - SentencePiece BPE (Llama 2, TinyLlama): the symbols are characters with "▁" for a space, the whole text is one
//     piece, and the pair whose union has the best score is joined first.
//
// The way of a text:
//
//	text ─ partition ─┬─ added tokens ────────────────────────────────────── id
//	 (trie, added.go) └─ plain text ─ NFC ─ split ─ pieces ─ merge ──────── ids
//	                                 (normalize) (pretokenize)  (merge.go, cache.go)
//
// Every step takes time linear in the text, up to the logarithm of the merge heap: no step looks at a stretch of text
// again because of what follows it. Bytes that are not UTF-8 are kept: byte-level vocabularies have a token for each.
//
// Text that users wrote must not become control tokens. Encode recognises them only when told to, and a rendered chat
// prompt, which mixes the template's text with the users', is encoded by EncodeGuarded: see Guard.
//
// The package imports nothing of the module, so that everything that needs token texts can import it.
package tokenizer
