package sessions

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"log/slog"
	"slices"
	"time"

	"hearth/engine"
	"hearth/engine/tokenizer"
	"hearth/sessions/database"
)

// answers is the purpose that the tokens of answers are sealed for in the database:
//
//	hash of the tokens before 32 bytes | number of tokens of the tail 4 bytes | tokens of tail and answer, 4 bytes each
//
// with numbers in little endian.
const answers = "answer"

// answerTime bounds how long an answer waits for the database: without it, it is only encoded again.
const answerTime = 2 * time.Second

// remember keeps the tokens that were drawn after a prompt, for the prompt that has them as its text. Those that an
// encoding of the text would not find are kept across restarts.
func (s *Store) remember(m *engine.Served, t *Turn, p *prompt, drawn []int32) {
	if !p.anchored || len(drawn) == 0 {
		return
	}
	start := len(p.tokens) - p.tail
	x := &anchor{
		tenant: t.Tenant, key: p.anchor, start: start, before: hashTokens(p.tokens[:start]), tail: p.tail,
		tokens: slices.Concat(p.tokens[start:], drawn),
	}
	s.anchors.add(x)
	if !p.stored || !needed(m, p, x) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	err := s.database.PutAnchor(ctx, t.Tenant, &database.Anchor{Key: x.key[:], Start: x.start, Sealed: s.sealBytes(answers, t.Tenant, x.encode())})
	s.report(err)
}

// needed reports whether the text of an answer says too little: it is not encoded to the same tokens, or it has calls,
// which come back in other words.
func needed(m *engine.Served, p *prompt, x *anchor) bool {
	text := m.Tokenizer.Decode(x.tokens, tokenizer.PieceOptions{Special: true})
	if !slices.Equal(m.Tokenizer.Encode(text, tokenizer.EncodeOptions{ParseSpecial: true}), x.tokens) {
		return true
	}
	return p.tools != nil && len(readReply(m, p, p.text, m.Tokenizer.Decode(x.tokens[x.tail:], tokenizer.PieceOptions{Special: true})).calls) > 0
}

// maxLookups bounds how many places of a prompt the database is asked about.
const maxLookups = 20_000

// likely returns the keys of places where an answer may begin, of the last ones at most maxLookups: behind reserved tokens,
// and behind the last token of this prompt, whatever that is. A client can write any number of other added tokens.
func likely(m *engine.Served, parts *tokenizer.Parts, keys []anchorKey) []anchorKey {
	_, h := answerHeader(parts)
	list := keys[:1:1]
	for i := range parts.Len() {
		if id := tokenAt(parts, i); id >= 0 && (id == h.token || m.Tokenizer.IsReserved(id)) {
			list = append(list, keys[i+1])
		}
	}
	return list[max(len(list)-maxLookups, 0):]
}

// loadAnchors brings those of the keys that the database has into memory.
func (s *Store) loadAnchors(tenant string, keys []anchorKey) {
	missing := s.anchors.incomplete(keys)
	if len(missing) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	rows, err := s.database.Anchors(ctx, tenant, missing)
	if s.report(err); err != nil {
		return
	}
	for _, row := range slices.Backward(rows) {
		if x, ok := s.openAnchor(tenant, &row); ok {
			s.anchors.add(x)
		}
	}
	s.anchors.complete(missing)
}

// report tells of a database that keeps no answers, once until it does again.
func (s *Store) report(err error) {
	if failed := err != nil; s.failing.Swap(failed) != failed && failed {
		s.opts.Logger.Warn("answers are not kept in the database: after a restart some may have to be computed again", slog.Any("error", err))
	}
}

// forgetAnswers drops the answers that are in tokens which nothing stored needs any more.
func (s *Store) forgetAnswers(ctx context.Context, list []database.Freed) error {
	byTenant := map[string][]database.Freed{}
	for _, f := range list {
		s.anchors.forget(f.Tenant, f.Tokens, f.Keep)
		byTenant[f.Tenant] = append(byTenant[f.Tenant], f)
	}
	for tenant, freed := range byTenant {
		longest := 0
		for _, f := range freed {
			longest = max(longest, len(f.Tokens))
		}
		rows, err := s.database.AnchorsBetween(ctx, tenant, 0, longest)
		if err != nil {
			return err
		}
		var gone []int64
		for i := range rows {
			x, ok := s.openAnchor(tenant, &rows[i])
			if ok && slices.ContainsFunc(freed, func(f database.Freed) bool { return x.isIn(f.Tokens, f.Keep) }) {
				gone = append(gone, rows[i].ID)
			}
		}
		if err := s.database.DeleteAnchors(ctx, tenant, gone); err != nil {
			return err
		}
	}
	return nil
}

func (x *anchor) encode() []byte {
	b := append([]byte(nil), x.before[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(x.tail))
	return appendTokens(b, x.tokens)
}

// openAnchor returns what a row seals; false where it was sealed with another secret, or is damaged.
func (s *Store) openAnchor(tenant string, row *database.Anchor) (*anchor, bool) {
	b, err := s.unsealBytes(answers, tenant, row.Sealed)
	if err != nil || len(row.Key) != len(anchorKey{}) || row.Start < 0 || len(b) < sha256.Size+4 || len(b)%4 != 0 {
		return nil, false
	}
	x := &anchor{tenant: tenant, key: anchorKey(row.Key), start: row.Start}
	b = b[copy(x.before[:], b):]
	x.tail = int(binary.LittleEndian.Uint32(b))
	for b = b[4:]; len(b) > 0; b = b[4:] {
		x.tokens = append(x.tokens, int32(binary.LittleEndian.Uint32(b)))
	}
	return x, x.tail >= 0 && x.tail <= len(x.tokens)
}
