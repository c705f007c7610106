package console

import "context"

// companies are the names of the companies of rows by realm, where they are known.
func companies[T any](ctx context.Context, s *Server, rows []T, realm func(T) string) (map[string]string, error) {
	realms := make([]string, len(rows))
	for i, row := range rows {
		realms[i] = realm(row)
	}
	return s.o.State.CompanyNames(ctx, realms)
}
