// Package jinja renders the Jinja2 templates that language models carry to turn a conversation into a prompt.
//
// It is a tree-walking interpreter of the part of Jinja2 3.1 that such templates use, set up as Hugging Face transformers
// does: trim_blocks, lstrip_blocks, no auto-escaping, loop controls, generation blocks, a tojson that neither sorts keys
// nor escapes HTML. Values behave as Python's: ordered dicts, arbitrary integers, float and repr formatting, and the
// methods of str, list and dict. Templates cannot load other templates.
//
// Templates come from model files and are not trusted to be harmless. A template sees only the value types of this
// package, so that no attribute leads to Go; and every rendering is limited in steps, depth, text length and memory
// (Options).
//
// Neither are the strings of a conversation: a message may contain the text of a control token. So each string remembers,
// byte by byte, whether the template wrote it or it came from outside, through concatenation, slicing, splitting,
// replacing, case changes, formatting and tojson (whose punctuation and numbers count as the template's). String
// operations look at the bare text only; where it came from shows when Render passes each run from outside through a
// guard (RenderOptions.Guard), which marks it for the tokenizer. A guard therefore cannot change what a template decides,
// and the output without the guard's marks is the output rendered without one.
//
//	source ──lex──▶ tokens ──parse──▶ nodes ──render──▶ text and its runs from outside ──guard──▶ string
//
// Different from Jinja2: map, select and their relatives do their work at once, so that an error shows even if nobody
// asks for the element; append, update and other changing methods work on what the template made itself, where the
// sandbox of Hugging Face refuses them all; the tags block, extends, include, import, print, do and autoescape are
// refused, the filters pprint, random, urlize, wordwrap, xmlattr, striptags and filesizeformat do not exist; from_json does.
//
// A Template is immutable and may render concurrently.
package jinja
