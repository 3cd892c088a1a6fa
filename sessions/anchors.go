package sessions

import (
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"slices"
	"sync"

	"hearth/engine/tokenizer"
)

// An answer comes back as text: the client sends it as a part of the next prompt, or the store's own items do. Encoded
// again it may become other tokens than those that the model drew, and then nothing that was computed after them is of
// use. So the drawn tokens are kept, and found again by the text before them:
//
//	prompt    <|im_start|> system … <|im_end|> … <|im_start|> assistant\n
//	                                                         |←  tail  →|
//	anchor    what all parts up to here are    →  tokens of the tail, drawn tokens
//
// An anchor stands behind the last added token of a prompt. What is found there only says where to look: the tokens are
// used as far as they say what the next prompt says there (tokenizer.Parts.Follow).
//
// A template that leaves out earlier reasoning makes the next prompt part from this one at its end, or within its tail.
// What follows is then encoded from its text, to the same tokens each time.

// anchorKey names the text before an anchor, and whose it is. It says nothing about the text to whoever lacks the secret.
type anchorKey [sha256.Size]byte

// Bounds of what is kept: 16 MiB of tokens, so many answers to one prompt, and so many keys that are known to be whole.
const (
	maxAnchorTokens = 4 << 20
	maxAnswers      = 4
	maxWholeKeys    = 1 << 17
)

// anchor is one answer. It does not change.
type anchor struct {
	tenant string
	key    anchorKey
	start  int               // how many tokens there are before the tail
	before [sha256.Size]byte // hash of these
	tail   int               // how many of the tokens are the prompt's
	tokens []int32           // those of the tail, then those of the answer
}

// isIn reports whether a log has the answer where it stands, and some of it behind the first keep tokens.
func (x *anchor) isIn(log []int32, keep int) bool {
	end := x.start + len(x.tokens)
	return keep < end && end <= len(log) && slices.Equal(x.tokens, log[x.start:end]) && hashTokens(log[:x.start]) == x.before
}

func hashTokens(ids []int32) (sum [sha256.Size]byte) {
	return sha256.Sum256(appendTokens(nil, ids))
}

func appendTokens(b []byte, ids []int32) []byte {
	b = slices.Grow(b, 4*len(ids))
	for _, id := range ids {
		b = binary.LittleEndian.AppendUint32(b, uint32(id))
	}
	return b
}

// anchors are those of all tenants and models; their keys keep them apart. The zero value is empty.
//
// Invariants, under mu:
//  1. Each element of order holds an *anchor, the most recently used first, and is in the list of its key in byKey.
//  2. A list of byKey is not empty, has at most maxAnswers elements, and no two of equal tokens; the newest comes first.
//  3. numTokens is the sum of their tokens, at most maxAnchorTokens.
//  4. Of the keys in whole, everything that the database has is here.
type anchors struct {
	mu        sync.Mutex
	byKey     map[anchorKey][]*list.Element
	order     list.List
	numTokens int
	whole     map[anchorKey]bool
}

// find returns the anchors of each key, the newest first.
func (a *anchors) find(keys []anchorKey) map[int][]*anchor {
	found := map[int][]*anchor{}
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, key := range keys {
		for _, e := range a.byKey[key] {
			found[i] = append(found[i], e.Value.(*anchor))
			a.order.MoveToFront(e)
		}
	}
	return found
}

// incomplete returns the keys of which the database may have more.
func (a *anchors) incomplete(keys []anchorKey) (list [][]byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range keys {
		if !a.whole[keys[i]] {
			list = append(list, keys[i][:])
		}
	}
	return list
}

// complete says that everything of these keys is here now.
func (a *anchors) complete(keys [][]byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.whole == nil || len(a.whole)+len(keys) > maxWholeKeys {
		a.whole = map[anchorKey]bool{}
	}
	for _, key := range keys {
		a.whole[anchorKey(key)] = true
	}
}

// forget drops the answers of a tenant that are in a log, behind its first keep tokens.
func (a *anchors) forget(tenant string, log []int32, keep int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for e := a.order.Front(); e != nil; {
		next := e.Next()
		if x := e.Value.(*anchor); x.tenant == tenant && x.isIn(log, keep) {
			a.remove(e)
		}
		e = next
	}
}

// add keeps an anchor, and forgets those that were not used for longest.
func (a *anchors) add(x *anchor) {
	if len(x.tokens) > maxAnchorTokens {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byKey == nil {
		a.byKey = map[anchorKey][]*list.Element{}
	}
	for _, e := range a.byKey[x.key] {
		if slices.Equal(e.Value.(*anchor).tokens, x.tokens) {
			a.remove(e)
			break
		}
	}
	if same := a.byKey[x.key]; len(same) == maxAnswers {
		a.remove(same[maxAnswers-1])
	}
	for a.numTokens+len(x.tokens) > maxAnchorTokens {
		a.remove(a.order.Back())
	}
	a.byKey[x.key] = slices.Insert(a.byKey[x.key], 0, a.order.PushFront(x))
	a.numTokens += len(x.tokens)
}

func (a *anchors) remove(e *list.Element) {
	x := a.order.Remove(e).(*anchor)
	a.numTokens -= len(x.tokens)
	rest := slices.DeleteFunc(a.byKey[x.key], func(other *list.Element) bool { return other == e })
	if a.byKey[x.key] = rest; len(rest) == 0 {
		delete(a.byKey, x.key)
	}
	delete(a.whole, x.key)
}

// keyring makes the keys of prompts of one tenant and model.
type keyring struct {
	hash hash.Hash
	key  anchorKey
}

// newKeyring returns the key before the first part of a prompt. Each of names is one that keys depend on.
func newKeyring(secret []byte, names ...string) *keyring {
	k := &keyring{hash: sha256.New()}
	k.hash.Write(secret)
	for _, name := range names {
		k.write(0, name)
	}
	k.hash.Sum(k.key[:0])
	return k
}

// next goes on behind a part of a prompt.
func (k *keyring) next(text string, id int32) {
	k.hash.Reset()
	k.hash.Write(k.key[:])
	k.write(id, text)
	k.hash.Sum(k.key[:0])
}

// write hashes a number and a text, so that no two lists of them hash the same bytes.
func (k *keyring) write(id int32, text string) {
	var head [12]byte
	binary.LittleEndian.PutUint32(head[:], uint32(id))
	binary.LittleEndian.PutUint64(head[4:], uint64(len(text)))
	k.hash.Write(head[:])
	k.hash.Write([]byte(text))
}

// keysOf returns the key before each part of a prompt, and the one behind the last.
func (k *keyring) keysOf(parts *tokenizer.Parts) []anchorKey {
	keys := make([]anchorKey, 0, parts.Len()+1)
	keys = append(keys, k.key)
	for i := range parts.Len() {
		k.next(parts.Part(i))
		keys = append(keys, k.key)
	}
	return keys
}
