package dev

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
)

const (
	kindJSONL    = "jsonl"
	kindPostgres = "postgres"
)

// Target is where a sink writes: a file or a database.
type Target struct {
	Kind string // "jsonl" or "postgres"
	// Where is a file path, or a connection URL, which may hold a password:
	// print the Target, not this.
	Where string
}

// UnmarshalText reads jsonl:PATH or postgres:URL. The URL may be written
// postgres:postgres://… or, as it begins with the kind already, postgres://….
func (t *Target) UnmarshalText(text []byte) error {
	kind, where, _ := strings.Cut(string(text), ":")
	switch {
	case kind == kindJSONL && where != "":
		*t = Target{Kind: kindJSONL, Where: where}
		return nil
	case (kind == kindPostgres || kind == "postgresql") && strings.HasPrefix(where, "//"):
		*t = Target{Kind: kindPostgres, Where: string(text)}
	case kind == kindPostgres && (strings.HasPrefix(where, "postgres://") || strings.HasPrefix(where, "postgresql://")):
		*t = Target{Kind: kindPostgres, Where: where}
	case kind == kindPostgres:
		// Not echoed: what is meant for a URL may hold a password.
		return fmt.Errorf("sink postgres: give a URL, such as postgres:postgres://user@127.0.0.1:5432/books")
	default:
		return fmt.Errorf("sink %q: use jsonl:PATH or postgres:URL", text)
	}
	u, err := url.Parse(t.Where)
	if err != nil || u.Host == "" && u.Query().Get("host") == "" {
		return fmt.Errorf("sink postgres: the URL cannot be read: use postgres://user@host:5432/database")
	}
	return nil
}

// String leaves the password and the options of a URL out.
func (t Target) String() string {
	if t.Kind == kindPostgres {
		return t.Kind + ":" + t.key()
	}
	return t.Kind + ":" + t.Where
}

// key is the same for two ways of writing the same place.
func (t Target) key() string {
	if t.Kind == kindPostgres {
		u, err := url.Parse(t.Where)
		if err != nil {
			return t.Kind
		}
		host := u.Host
		if host == "" {
			host = u.Query().Get("host") + ":" + u.Query().Get("port")
		}
		return "postgres://" + host + u.Path
	}
	abs, err := filepath.Abs(t.Where)
	if err != nil {
		return t.Where
	}
	return abs
}

// name is the sink's name in the marks. It stands for the place: another
// place is another sink, which has to be loaded from the beginning.
func (t Target) name() string {
	sum := sha256.Sum256([]byte(t.key()))
	return t.Kind + "-" + hex.EncodeToString(sum[:4])
}
