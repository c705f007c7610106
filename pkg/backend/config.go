package backend

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/url"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// Config are the settings that such services have in common. Embed it with
// `koanf:",squash"`.
type Config struct {
	NATS       stream.Config         `koanf:"nats"`
	Redis      state.Config          `koanf:"redis"`
	Log        telemetry.LogConfig   `koanf:"log"`
	Admin      telemetry.AdminConfig `koanf:"admin"`
	QBO        qbo.Config            `koanf:"qbo"`
	Connection connection.Config     `koanf:"connection"`
}

// Common is the configuration itself, as a service that embeds it has it.
func (c Config) Common() Config { return c }

// Files are the files that settings name, by setting.
func (c Config) Files() map[string]string {
	files := map[string]string{}
	for key, path := range map[string]string{
		"nats.credentials_file": c.NATS.CredentialsFile, "nats.ca_file": c.NATS.CAFile,
		"redis.ca_file": c.Redis.CAFile, "redis.client_cert_file": c.Redis.ClientCertFile, "redis.client_key_file": c.Redis.ClientKeyFile,
	} {
		if path != "" {
			files[key] = path
		}
	}
	return files
}

// DefaultConfig is what is used where nothing is set.
func DefaultConfig() Config {
	return Config{
		NATS:  stream.DefaultConfig(),
		Redis: state.DefaultConfig(),
		Log:   telemetry.DefaultLogConfig(),
		Admin: telemetry.DefaultAdminConfig(),
		QBO:   qbo.DefaultConfig(),
	}
}

// Validate names every setting that cannot be used.
func (c Config) Validate() error {
	return errors.Join(c.NATS.Validate(), c.Redis.Validate(), c.Log.Validate(), c.Admin.Validate(),
		c.QBO.Validate(), c.Connection.Validate(), CheckKeys(c.QBO, c.Connection))
}

// demoKey is the key of docker-compose.yml, which everybody can read.
const demoKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

// CheckKeys refuses the key of the demo, under whatever id, for the tokens of real
// companies.
func CheckKeys(api qbo.Config, keys connection.Config) error {
	u, err := url.Parse(api.BaseURL)
	if err != nil || !strings.HasSuffix(u.Hostname(), ".intuit.com") {
		return nil //nolint:nilerr // QBO.Validate reports it
	}
	for _, key := range keys.Keys {
		id, text, _ := strings.Cut(key.Reveal(), ":")
		if id == "demo" || isDemoKey(text) {
			return errors.New(`connection.keys holds the public demo key, which must not encrypt real tokens: make one with echo "k1:$(openssl rand -base64 32)"`)
		}
	}
	return nil
}

// isDemoKey compares the bytes: base64 has several spellings of them.
func isDemoKey(text string) bool {
	demo, err := base64.StdEncoding.DecodeString(demoKey)
	given, wrong := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	return err == nil && wrong == nil && bytes.Equal(demo, given)
}
