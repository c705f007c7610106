package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// companies are the names of companies by realm, for tables. A nil one knows none.
type companies map[string]string

// companiesOf are the names of the realms of rows.
func companiesOf[T any](ctx context.Context, store *state.Store, rows []T, realm func(T) string) (companies, error) {
	realms := make([]string, len(rows))
	for i, row := range rows {
		realms[i] = realm(row)
	}
	return store.CompanyNames(ctx, realms)
}

// encodeNamed prints v, an object, with the name of its company as "company".
func encodeNamed(w io.Writer, v any, company string) error {
	var object bytes.Buffer
	enc := json.NewEncoder(&object)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	text := bytes.TrimSpace(object.Bytes())
	if company != "" && len(text) > 2 {
		object = bytes.Buffer{}
		object.Write(text[:len(text)-1])
		object.WriteString(`,"company":`)
		if err := enc.Encode(company); err != nil {
			return err
		}
		text = append(bytes.TrimSpace(object.Bytes()), '}')
	}
	_, err := fmt.Fprintf(w, "%s\n", text)
	return err
}

// printNamed is printJSON with the name of each row's company.
func printNamed[T any](w io.Writer, rows []T, names companies, realm func(T) string) error {
	for _, row := range rows {
		if err := encodeNamed(w, row, names[realm(row)]); err != nil {
			return err
		}
	}
	return nil
}

// namesTimeout bounds how long a command that can do without names waits for them.
const namesTimeout = 3 * time.Second

// namesOf are the names of the realms of rows for a command that otherwise needs the broker
// alone: nil where no Redis is set or it does not answer.
func namesOf[T any](ctx context.Context, p process, f redisFlags, rows []T, realm func(T) string) companies {
	if f.RedisURL == "" && os.Getenv("LEDGERFEED_REDIS_URL") == "" && os.Getenv("LEDGERFEED_REDIS_URL_FILE") == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, namesTimeout)
	defer cancel()
	store, err := f.open(ctx, p)
	if err != nil {
		fmt.Fprintln(p.stderr, "company names are left out:", plain(err.Error()))
		return nil
	}
	defer func() { _ = store.Close() }()
	names, err := companiesOf(ctx, store, rows, realm)
	if err != nil {
		fmt.Fprintln(p.stderr, "company names are left out:", plain(err.Error()))
		return nil
	}
	return names
}

// of is the name as a table shows it.
func (c companies) of(realm string) string { return short(c[realm]) }

// named is a realm with its name, for a sentence or a list of properties.
func (c companies) named(realm string) string {
	if c[realm] == "" {
		return plain(realm)
	}
	return plain(realm) + " (" + short(c[realm]) + ")"
}
