package stream

import (
	"fmt"
	"os"
	"regexp"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// nkey reads the seed of Config.NkeyFile; nil if none is set. The error quotes nothing of
// the file.
func (c Config) nkey() (nkeys.KeyPair, error) {
	if c.NkeyFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(c.NkeyFile)
	if err != nil {
		return nil, fmt.Errorf("nats.nkey_file: %w", err)
	}
	pair, err := nkeys.ParseDecoratedNKey(text)
	if err != nil {
		return nil, fmt.Errorf("nats.nkey_file: no seed in %s: want one line that begins with SU", c.NkeyFile)
	}
	return pair, nil
}

// NewNkey makes the seed of a user, for Config.NkeyFile.
func NewNkey() (seed string, err error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return "", err
	}
	text, err := pair.Seed()
	return string(text), err
}

// PublicNkey is what a server knows the user of a seed by.
func PublicNkey(seed string) (string, error) {
	pair, err := nkeys.ParseDecoratedNKey([]byte(seed))
	if err != nil {
		return "", err
	}
	return pair.PublicKey()
}

func (c *Conn) nkeyOption() nats.Option {
	public, err := c.nkey.PublicKey()
	if err != nil {
		return func(*nats.Options) error { return fmt.Errorf("nats.nkey_file: %w", err) }
	}
	return nats.Nkey(public, c.nkey.Sign)
}

var inboxName = regexp.MustCompile(`^[a-z][a-z-]*$`)

// inboxOf is where a service gets its answers: no other service may listen there. Empty
// where the name of a connection cannot be part of a subject.
func inboxOf(name string) string {
	if !inboxName.MatchString(name) {
		return ""
	}
	return "_INBOX." + name
}
