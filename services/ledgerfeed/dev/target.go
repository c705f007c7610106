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
	kindWebhook  = "webhook"
)

// Target is where a sink writes: a file, a database or an endpoint.
type Target struct {
	Kind string // "jsonl", "postgres" or "webhook"
	// Where is a file path, or a URL, which may hold a password: print the
	// Target, not this.
	Where string
}

// UnmarshalText reads jsonl:PATH, postgres:URL or webhook:URL. That of a database
// may be written postgres:postgres://… or, as it begins with the kind already,
// postgres://….
func (t *Target) UnmarshalText(text []byte) error {
	kind, where, _ := strings.Cut(string(text), ":")
	switch {
	case kind == kindJSONL && where != "":
		*t = Target{Kind: kindJSONL, Where: where}
		return nil
	case kind == kindWebhook:
		*t = Target{Kind: kindWebhook, Where: where}
		u, err := url.Parse(where)
		if err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
			return fmt.Errorf("sink webhook: give a URL, such as webhook:http://127.0.0.1:9000")
		}
		return nil
	case (kind == kindPostgres || kind == "postgresql") && strings.HasPrefix(where, "//"):
		*t = Target{Kind: kindPostgres, Where: string(text)}
	case kind == kindPostgres && (strings.HasPrefix(where, "postgres://") || strings.HasPrefix(where, "postgresql://")):
		*t = Target{Kind: kindPostgres, Where: where}
	case kind == kindPostgres:
		// Not echoed: what is meant for a URL may hold a password.
		return fmt.Errorf("sink postgres: give a URL, such as postgres:postgres://user@127.0.0.1:5432/books")
	default:
		return fmt.Errorf("sink %q: use jsonl:PATH, postgres:URL or webhook:URL", text)
	}
	u, err := url.Parse(t.Where)
	if err != nil || u.Host == "" && u.Query().Get("host") == "" {
		return fmt.Errorf("sink postgres: the URL cannot be read: use postgres://user@host:5432/database")
	}
	return nil
}

// String leaves the password and the options of a URL out.
func (t Target) String() string {
	switch t.Kind {
	case kindPostgres:
		return t.Kind + ":" + t.key()
	case kindWebhook:
		where, _, _ := strings.Cut(t.Where, "?")
		return t.Kind + ":" + where
	}
	return t.Kind + ":" + t.Where
}

// key is the same for two ways of writing the same place.
func (t Target) key() string {
	if t.Kind == kindWebhook {
		return t.Where
	}
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
