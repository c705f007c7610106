// Package secrets makes the secrets of a deployment: an authority of its own and the
// certificates of the servers, an nkey for each NATS user, the users of Redis, the roles of
// PostgreSQL, and the keys and tokens of the services.
//
// It never replaces a secret that is there, so that it may be repeated: what a new version
// needs is added, and a certificate that ends soon is renewed by the same authority. It asks
// nobody; what only Intuit knows is given to it.
package secrets

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Options say what to make. Dir is required.
type Options struct {
	Dir string
	// IngressApps and ClientSecret come from Intuit's portal; they are needed once.
	IngressApps, ClientSecret string
	// Hosts are more names and addresses for the certificates of the servers.
	Hosts []string
	// Valid is how long a certificate is valid; two years if zero.
	Valid time.Duration
	Now   func() time.Time
	// Say hears what became of each file: made, kept or renewed; may be nil.
	Say func(what, name string)
}

const (
	defaultValid = 2 * 365 * 24 * time.Hour
	// renewBefore its end a certificate is made again.
	renewBefore = 60 * 24 * time.Hour

	// The directory keeps others on this machine out; the files are read by the users of
	// several containers. What no container reads only its owner may.
	dirMode, fileMode, ownMode = 0o700, 0o444, 0o400
)

type maker struct {
	Options
	authority *authority
}

// MissingError names what Make has to be given.
type MissingError struct{ Names []string }

func (e *MissingError) Error() string { return strings.Join(e.Names, " and ") + ": missing" }

// Make makes the secrets that are not there yet.
func Make(o Options) error {
	if o.Valid == 0 {
		o.Valid = defaultValid
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Say == nil {
		o.Say = func(string, string) {}
	}
	m := &maker{Options: o}
	if err := os.MkdirAll(o.Dir, dirMode); err != nil {
		return err
	}
	if err := os.Chmod(o.Dir, dirMode); err != nil {
		return err
	}
	for _, step := range []func() error{m.fromIntuit, m.services, m.certificates, m.nats, m.redis, m.postgres} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// fromIntuit writes what was given; all that is missing is named at once.
func (m *maker) fromIntuit() error {
	missing := &MissingError{}
	for name, value := range map[string]string{"ingress_apps": m.IngressApps, "qbo_client_secret": m.ClientSecret} {
		switch {
		case m.there(name):
			m.Say("kept", name)
		case value == "":
			missing.Names = append(missing.Names, name)
		default:
			if err := m.write(name, value); err != nil {
				return err
			}
		}
	}
	if len(missing.Names) > 0 {
		slices.Sort(missing.Names)
		return missing
	}
	return nil
}

// services are the secrets that no server shares. Who has lost connection_keys has lost the
// tokens.
func (m *maker) services() error {
	apps, err := m.read("ingress_apps")
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(apps, "\n")
	first, _, _ = strings.Cut(first, ";")
	first, _, _ = strings.Cut(first, ",")
	_, token, _ := strings.Cut(first, "=")
	return errors.Join(
		m.write("connection_keys", "k1:"+random(32, base64.StdEncoding.EncodeToString)),
		m.write("console_token", random(24, hex.EncodeToString)),
		m.write("console_session_key", random(32, base64.StdEncoding.EncodeToString)),
		m.write("console_verifier_token", token),
		m.write("grafana_password", random(12, hex.EncodeToString)),
	)
}

func random(bytes int, encode func([]byte) string) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // it never fails
	return encode(b)
}

func password() string { return random(24, hex.EncodeToString) }

func (m *maker) path(name string) string { return filepath.Join(m.Dir, name) }

func (m *maker) there(name string) bool {
	_, err := os.Stat(m.path(name))
	return err == nil
}

func (m *maker) read(name string) (string, error) {
	text, err := os.ReadFile(m.path(name))
	return strings.TrimSpace(string(text)), err
}

// write writes a file unless it is there.
func (m *maker) write(name, value string) error { return m.writeMode(name, value, fileMode) }

func (m *maker) writeMode(name, value string, mode os.FileMode) error {
	if m.there(name) {
		m.Say("kept", name)
		return nil
	}
	if err := m.replace(name, value, mode); err != nil {
		return err
	}
	m.Say("made", name)
	return nil
}

// replace writes a file in one step.
func (m *maker) replace(name, value string, mode os.FileMode) error {
	next := m.path(name + ".new")
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(next, []byte(strings.TrimRight(value, "\n")+"\n"), mode); err != nil {
		return err
	}
	if err := os.Chmod(next, mode); err != nil { // whatever the umask says
		return err
	}
	return os.Rename(next, m.path(name))
}

// together reports whether files that hold one secret in several forms are to be made; some
// without the others are an error.
func (m *maker) together(names ...string) (missing bool, err error) {
	var there, not []string
	for _, name := range names {
		if m.there(name) {
			there = append(there, name)
		} else {
			not = append(not, name)
		}
	}
	if len(there) > 0 && len(not) > 0 {
		return false, fmt.Errorf("%s: missing, and belongs together with %s: remove those to have all made again", strings.Join(not, ", "), strings.Join(there, ", "))
	}
	for _, name := range there {
		m.Say("kept", name)
	}
	return len(not) > 0, nil
}
