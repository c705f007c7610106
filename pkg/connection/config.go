package connection

import (
	"errors"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// Config are the keys the tokens are encrypted with.
type Config struct {
	Keys []secret.String `koanf:"keys" live:"true" doc:"Keys that encrypt the tokens in Redis, each ID:BASE64 of 32 random bytes. The first encrypts, all decrypt. To rotate, put a new key in front and remove the old one when every realm has been refreshed since (a day). Reloaded when its file changes and on SIGHUP."`
}

// Validate says which key cannot be used, by its id or place, never its text.
func (c Config) Validate() error {
	_, err := newKeyring(c.Keys)
	return err
}

var errNoKeys = errors.New(`connection.keys is empty: make one with echo "k1:$(openssl rand -base64 32)"`)
