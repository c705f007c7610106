package dev

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// dataVersion changes when an older directory can no longer be read.
const dataVersion = "ledgerfeed dev data 1"

// dataDir is a directory that one dev at a time owns. It holds all that a
// restart goes on from.
type dataDir struct {
	path string
	lock *os.File
}

// openDataDir makes the directory if need be and locks it. The lock is the
// kernel's: it goes with the process, also after kill -9.
func openDataDir(path string) (*dataDir, error) {
	d := &dataDir{path: path}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, unusable(path, err)
	}
	lock, err := os.OpenFile(d.file("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, unusable(path, err)
	}
	if err := lockFile(lock); err != nil {
		err = errors.Join(err, lock.Close())
		if errors.Is(err, errLocked) {
			return nil, lifecycle.Usage(fmt.Errorf("--data-dir %s: another ledgerfeed dev is using it; stop that one or name another directory", path))
		}
		return nil, unusable(path, err)
	}
	d.lock = lock
	if err := d.checkVersion(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func unusable(path string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return lifecycle.Usage(fmt.Errorf("--data-dir %s: not a directory this user can write to (%w); name another one", path, err))
}

// Close gives the directory up.
func (d *dataDir) Close() error { return d.lock.Close() }

func (d *dataDir) file(name string) string { return filepath.Join(d.path, name) }

func (d *dataDir) checkVersion() error {
	got, err := d.keep("VERSION", func() (string, error) { return dataVersion, nil })
	if err != nil {
		return err
	}
	if got != dataVersion {
		return lifecycle.Usage(fmt.Errorf("--data-dir %s: the version is %q, this program reads %q; name another directory or remove this one", d.path, got, dataVersion))
	}
	return nil
}

// key is the key that encrypts the tokens in Redis, made once.
func (d *dataDir) key() (secret.String, error) {
	key, err := d.keep("encryption.key", func() (string, error) {
		raw := make([]byte, 32)
		if _, err := rand.Read(raw); err != nil {
			return "", err
		}
		return "dev:" + base64.StdEncoding.EncodeToString(raw), nil
	})
	return secret.String(key), err
}

// realmIDs are n realm ids that no other data directory has, so that several
// of them can share a Redis, a NATS and a database.
func (d *dataDir) realmIDs(n int) ([]string, error) {
	base, err := d.keep("realms", func() (string, error) {
		k, err := rand.Int(rand.Reader, big.NewInt(1e9))
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("9341%09d", k), nil
	})
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s%03d", base, i)
	}
	return ids, err
}

// keep returns the content of a file, which is made by create the first time;
// kill -9 leaves all of it or none.
func (d *dataDir) keep(name string, create func() (string, error)) (string, error) {
	text, err := os.ReadFile(d.file(name))
	if err == nil {
		return strings.TrimSpace(string(text)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", unusable(d.path, err)
	}
	value, err := create()
	if err != nil {
		return "", fmt.Errorf("make %s: %w", d.file(name), err)
	}
	return value, d.replace(name, []byte(value+"\n"))
}

// replace writes a file beside and renames it.
func (d *dataDir) replace(name string, text []byte) error {
	part := d.file(name + ".part")
	if err := os.WriteFile(part, text, 0o600); err != nil {
		return unusable(d.path, err)
	}
	if err := os.Rename(part, d.file(name)); err != nil {
		return unusable(d.path, err)
	}
	return nil
}
