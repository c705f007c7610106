package connection

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// keyring seals and opens what is stored. A record is
//
//	1.<key id>.<base64 of nonce and ciphertext>
//
// with AES-256-GCM and the realm as additional data: a record copied to another
// realm does not open. Nonces are random; at one refresh an hour a realm no key
// comes near the 2^32 that GCM allows.
type keyring struct {
	first string
	keys  map[string]cipher.AEAD
	ids   []string // in the order given, for errors
}

const sealedVersion = "1"

func newKeyring(keys []secret.String) (*keyring, error) {
	if len(keys) == 0 {
		return nil, errNoKeys
	}
	r := &keyring{keys: make(map[string]cipher.AEAD, len(keys))}
	for i, k := range keys {
		id, text, ok := strings.Cut(k.Reveal(), ":")
		if !ok || !validKeyID(id) {
			return nil, fmt.Errorf("connection.keys: key %d of %d is not ID:BASE64, with an ID of 1 to 32 letters, digits, - or _", i+1, len(keys))
		}
		key, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(key) != 32 {
			// The decoder's error would quote a part of the key.
			return nil, fmt.Errorf("connection.keys: key %q is not the base64 of 32 bytes", id)
		}
		if _, twice := r.keys[id]; twice {
			return nil, fmt.Errorf("connection.keys: two keys have the id %q", id)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("connection.keys: key %q: %w", id, err)
		}
		if r.keys[id], err = cipher.NewGCM(block); err != nil {
			return nil, fmt.Errorf("connection.keys: key %q: %w", id, err)
		}
		r.ids = append(r.ids, id)
	}
	r.first = r.ids[0]
	return r, nil
}

func validKeyID(id string) bool {
	if id == "" || len(id) > 32 {
		return false
	}
	for _, c := range id {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

func (r *keyring) seal(realm string, plain []byte) string {
	aead := r.keys[r.first]
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce) // never fails: crypto/rand ends the process instead
	sealed := aead.Seal(nonce, nonce, plain, additional(realm))
	return sealedVersion + "." + r.first + "." + base64.RawStdEncoding.EncodeToString(sealed)
}

func (r *keyring) open(realm, record string) ([]byte, error) {
	parts := strings.Split(record, ".")
	if len(parts) != 3 || parts[0] != sealedVersion {
		return nil, errors.New("the stored token has a format that this version does not know")
	}
	id := parts[1]
	aead, ok := r.keys[id]
	if !ok {
		return nil, fmt.Errorf("the stored token needs the key %q; connection.keys has %s", id, strings.Join(r.ids, ", "))
	}
	sealed, err := base64.RawStdEncoding.DecodeString(parts[2])
	if err != nil || len(sealed) < aead.NonceSize() {
		return nil, errors.New("the stored token is damaged")
	}
	nonce, text := sealed[:aead.NonceSize()], sealed[aead.NonceSize():]
	plain, err := aead.Open(nil, nonce, text, additional(realm))
	if err != nil {
		return nil, fmt.Errorf("the stored token cannot be decrypted with key %q: another key had this id, or the record was altered", id)
	}
	return plain, nil
}

func additional(realm string) []byte {
	return []byte("ledgerfeed token " + sealedVersion + "\x00" + realm)
}
