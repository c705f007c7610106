package cli

import (
	"context"

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

// of is the name as a table shows it.
func (c companies) of(realm string) string { return short(c[realm]) }

// named is a realm with its name, for a sentence or a list of properties.
func (c companies) named(realm string) string {
	if c[realm] == "" {
		return plain(realm)
	}
	return plain(realm) + " (" + short(c[realm]) + ")"
}
