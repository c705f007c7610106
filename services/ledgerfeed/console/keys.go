package console

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

// minSecret is the shortest secret that keys are derived from, in bytes.
const minSecret = 32

var errNoSecret = fmt.Errorf("console: keys need a secret of at least %d bytes", minSecret)

// keys are derived from one secret, each for one purpose, so that what is signed for one
// is worth nothing for another. None is made of a login token: its owner would know it.
type keys struct {
	cookie  []byte // signs the id in a cookie, so that one that is made up costs Redis nothing
	session []byte // turns the id into the name it is stored under
	record  []byte // authenticates what Redis holds of a session
	token   []byte // turns a login token into what a session remembers of it
	flow    []byte // signs the cookie of a login that is under way at an issuer
}

// deriveKeys refuses a secret that is short: without one, everybody could derive them.
func deriveKeys(secret []byte) (k keys, err error) {
	if len(secret) < minSecret {
		return keys{}, errNoSecret
	}
	derive := func(purpose string) []byte {
		key, failed := hkdf.Key(sha256.New, secret, nil, "ledgerfeed console 1 "+purpose, sha256.Size)
		err = errors.Join(err, failed)
		return key
	}
	k = keys{cookie: derive("cookie"), session: derive("session"), record: derive("record"), token: derive("token"), flow: derive("flow")}
	return k, err
}

// sessionKeys are those of console.session_key, or new ones that end with the process.
func sessionKeys(c ConsoleConfig) (keys, error) {
	if c.SessionKey != "" {
		return deriveKeys([]byte(c.SessionKey.Reveal()))
	}
	drawn := make([]byte, minSecret)
	if _, err := rand.Read(drawn); err != nil {
		return keys{}, fmt.Errorf("create a session key: %w", err)
	}
	return deriveKeys(drawn)
}

func mac(key []byte, parts ...string) []byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p) // where one part ends and the next begins is signed, too
	}
	return h.Sum(nil)
}
