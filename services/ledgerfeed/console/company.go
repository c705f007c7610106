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

// companyOf is the name of the company of one realm, "" if it is not known.
func (s *Server) companyOf(ctx context.Context, realm string) (string, error) {
	names, err := s.o.State.CompanyNames(ctx, []string{realm})
	return names[realm], err
}
