package sessions

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
)

// What is sealed can be kept by anyone, and read and changed by nobody but the store that sealed it:
//
//	version 1 byte | nonce 12 bytes | ciphertext, as long as what it says | tag 16 bytes
//
// in base64 (RFC 4648, section 5, without padding). The cipher is AES-256-GCM (NIST SP 800-38D). Its key is derived from
// the store's secret (HKDF, RFC 5869) for each purpose; the tenant is authenticated with the text, so that what was sealed
// for one tenant is of no use to another.
const sealVersion = 1

// errSealed says that a text was not sealed here for this tenant and purpose, or is not as it was.
var errSealed = errors.New("was changed, or was not sealed by this server for this tenant")

// sealer returns the cipher of a purpose.
func (s *Store) sealer(purpose string) cipher.AEAD {
	key, err := hkdf.Key(sha256.New, s.opts.Secret, nil, "hearth "+purpose, 32)
	if err != nil {
		panic(fmt.Sprintf("sessions: deriving a key of 32 bytes: %v", err))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(fmt.Sprintf("sessions: a key of 32 bytes is refused: %v", err))
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(fmt.Sprintf("sessions: GCM refuses AES: %v", err))
	}
	return aead
}

// sealBytes seals what a tenant may keep for a purpose.
func (s *Store) sealBytes(purpose, tenant string, text []byte) []byte {
	return s.sealer(purpose).Seal([]byte{sealVersion}, nil, text, []byte(tenant))
}

// unsealBytes returns what was sealed for the same purpose and tenant, or errSealed.
func (s *Store) unsealBytes(purpose, tenant string, sealed []byte) ([]byte, error) {
	if len(sealed) == 0 || sealed[0] != sealVersion {
		return nil, errSealed
	}
	text, err := s.sealer(purpose).Open(nil, nil, sealed[1:], []byte(tenant))
	if err != nil {
		return nil, errSealed
	}
	return text, nil
}

func (s *Store) seal(purpose, tenant string, text []byte) string {
	return base64.RawURLEncoding.EncodeToString(s.sealBytes(purpose, tenant, text))
}

func (s *Store) unseal(purpose, tenant, sealed string) ([]byte, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	if err != nil {
		return nil, errSealed
	}
	return s.unsealBytes(purpose, tenant, raw)
}
