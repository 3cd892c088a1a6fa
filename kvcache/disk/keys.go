package disk

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
)

// secret is what the key file holds.
type secret [keyBytes]byte

// secretFile is the file of a store's secret.
func secretFile(path string) KeyFile {
	return KeyFile{Path: path, Prefix: "hearth-cache-key-1 "}
}

// tenantID is what stands for a tenant in the files: a hash of its salt.
type tenantID [8]byte

// tenant is one whose records only it can read.
type tenant struct {
	tag   [16]byte // keyed hash of its name
	salt  [32]byte
	id    tenantID
	meta  cipher.AEAD // seals headers
	data  cipher.AEAD
	slot  int64 // where the file of tenants has it; -1: not yet
	nodes map[Key]*node
}

// derive returns a key of the secret's for one purpose.
func (s secret) derive(salt []byte, purpose string, n int) []byte {
	key, err := hkdf.Key(sha256.New, s[:], salt, "hearth kv cache 1: "+purpose, n)
	if err != nil {
		panic("kvcache/disk: " + err.Error()) // only for lengths that nobody asks for
	}
	return key
}

// mac is the beginning of HMAC-SHA-256.
func mac(key, data []byte) (sum [16]byte) {
	h := hmac.New(sha256.New, key)
	h.Write(data)
	copy(sum[:], h.Sum(nil))
	return sum
}

// tenant derives the keys of one.
func (s secret) tenant(tag [16]byte, salt [32]byte) *tenant {
	return &tenant{
		tag: tag, salt: salt, slot: -1, id: tenantID(s.derive(salt[:], "id", 8)), nodes: map[Key]*node{},
		meta: newGCM(s.derive(salt[:], "headers", 32)), data: newGCM(s.derive(salt[:], "data", 32)),
	}
}

func newGCM(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("kvcache/disk: " + err.Error())
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic("kvcache/disk: " + err.Error())
	}
	return gcm
}

// tenantBytes is the size of a tenant in the file of tenants; see the drawing in the package's comment.
const tenantBytes = 64

const maxTenants = 1 << 20

// keyring is the tenants and the file that has their salts. The file belongs to the writer, the maps to the store's mutex.
type keyring struct {
	secret  secret
	names   []byte // key of the hashes of names
	checks  []byte // key of the hashes of slots
	byTag   map[[16]byte]*tenant
	byID    map[tenantID]*tenant
	byName  map[string]*tenant // of those that were asked for
	file    file
	slots   int64     // in the file
	free    []int64   // slots that hold nobody
	doomed  []*tenant // removed, their salts are still there
	foreign int       // slots that another secret wrote, or that are damaged
}

func newKeyring(key secret) *keyring {
	return &keyring{
		secret: key, names: key.derive(nil, "names", 32), checks: key.derive(nil, "tenants", 32),
		byTag: map[[16]byte]*tenant{}, byID: map[tenantID]*tenant{}, byName: map[string]*tenant{},
	}
}

// openKeyring reads the tenants; the file is made when it is not there.
func openKeyring(files fileSystem, path string, key secret) (*keyring, error) {
	k := newKeyring(key)
	f, err := files.Open(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, fmt.Errorf("kvcache/disk: %w", err)
	}
	k.file = f
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("kvcache/disk: %w", err), f.Close())
	}
	k.slots = min(info.Size()/tenantBytes, maxTenants)
	all := make([]byte, k.slots*tenantBytes)
	if _, err := f.ReadAt(all, 0); err != nil && err != io.EOF {
		return nil, errors.Join(fmt.Errorf("kvcache/disk: tenants: %w", err), f.Close())
	}
	for i := range k.slots {
		slot := [tenantBytes]byte(all[i*tenantBytes:])
		switch {
		case slot == [tenantBytes]byte{}:
			k.free = append(k.free, i)
		case !hmac.Equal(slot[48:], k.check(slot[:48])):
			k.foreign++
		default:
			t := key.tenant([16]byte(slot[:16]), [32]byte(slot[16:48]))
			t.slot = i
			if older := k.byTag[t.tag]; older != nil {
				delete(k.byID, older.id)
			}
			k.byTag[t.tag], k.byID[t.id] = t, t
		}
	}
	return k, nil
}

// reopen begins another file, which gets the tenants' salts when they are needed.
func (k *keyring) reopen(files fileSystem, path string, tenants []*tenant) error {
	f, err := files.Open(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return fmt.Errorf("kvcache/disk: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("kvcache/disk: %w", err), f.Close())
	}
	k.file.Close() // it has no name any more
	k.file, k.slots, k.free = f, info.Size()/tenantBytes, nil
	for _, t := range tenants {
		t.slot = -1
	}
	return nil
}

func (k *keyring) check(slot []byte) []byte {
	sum := mac(k.checks, slot)
	return sum[:]
}

// find returns a tenant, nil when it has nothing here.
func (k *keyring) find(name string) *tenant {
	if t := k.byName[name]; t != nil {
		return t
	}
	t := k.byTag[mac(k.names, []byte(name))]
	if t != nil {
		k.byName[name] = t
	}
	return t
}

// add returns a tenant, with a new salt when it has none; nil when there are too many.
func (k *keyring) add(name string) *tenant {
	if t := k.find(name); t != nil {
		return t
	}
	if len(k.byTag) >= maxTenants {
		return nil
	}
	var salt [32]byte
	rand.Read(salt[:])
	t := k.secret.tenant(mac(k.names, []byte(name)), salt)
	k.byTag[t.tag], k.byID[t.id], k.byName[name] = t, t, t
	return t
}

// forget takes a tenant out of the maps.
func (k *keyring) forget(name string, t *tenant) {
	delete(k.byName, name)
	delete(k.byTag, t.tag)
	delete(k.byID, t.id)
}

// save writes a tenant's salt, durably, before the first record needs it.
func (k *keyring) save(t *tenant) error {
	slot := make([]byte, 0, tenantBytes)
	slot = append(append(slot, t.tag[:]...), t.salt[:]...)
	slot = append(slot, k.check(slot)...)
	i := k.slots
	if n := len(k.free); n > 0 {
		i = k.free[n-1]
	}
	if err := k.write(i, slot); err != nil {
		return err
	}
	if i == k.slots {
		k.slots++
	} else {
		k.free = k.free[:len(k.free)-1]
	}
	t.slot = i
	return nil
}

// shredDoomed overwrites the salts of removed tenants, without which nothing of theirs can be decrypted.
func (k *keyring) shredDoomed() error {
	for len(k.doomed) > 0 {
		t := k.doomed[0]
		if t.slot >= 0 {
			if err := k.write(t.slot, make([]byte, tenantBytes)); err != nil {
				return err
			}
			k.free = append(k.free, t.slot)
			t.slot = -1
		}
		k.doomed = k.doomed[1:]
	}
	return nil
}

func (k *keyring) write(i int64, slot []byte) error {
	if _, err := k.file.WriteAt(slot, i*tenantBytes); err != nil {
		return fmt.Errorf("kvcache/disk: tenants: %w", err)
	}
	if err := k.file.Sync(); err != nil {
		return fmt.Errorf("kvcache/disk: tenants: %w", err)
	}
	return nil
}
