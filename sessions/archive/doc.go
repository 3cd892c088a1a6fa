// Package archive writes and reads a conversation as one file, from which another server goes on at once and which anyone can
// read without one.
//
// The file is a tar archive (POSIX.1-1988, ustar) inside a zstd stream (RFC 8878). Its entries, in this order:
//
//	README.txt                what the file is, for people
//	archive.json              Manifest: format, version, the conversation, its model
//	items.jsonl               the items in order, one JSON object a line, in the form of OpenAI's Responses API
//	tokens.json               the exact tokens of its last turn, a JSON array of numbers; absent if the manifest has no log
//	computed/<n>.block        what the model computed of the tokens before the n-th, from the block before on; n has ten digits
//	computed/<n>.state        what a model with recurrent layers remembers after n tokens; behind the block of that n
//	checksums.sha256          "<SHA-256, hex>  <name>\n" for every entry before it, as sha256sum -c reads it
//
// A file without checksums.sha256 is not whole, and nothing in it is known to be right before that was read: whoever uses the
// blocks reads the file twice.
//
// Readers trust nothing: entries that are not in this list, out of order, too large or damaged are errors, and no size that a
// file claims is allocated before its bytes have come.
package archive
