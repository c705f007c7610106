package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// keepCompanies writes a row only if something but the time has changed, or an hour has
// passed: several processors tell the same. An older word never replaces a newer one.
const keepCompanies = `
INSERT INTO {{company}} AS held (realm, name, legal_name, country, home_currency, fiscal_year_start, time_zone_offset, read_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[])
ON CONFLICT (realm) DO UPDATE SET name = excluded.name, legal_name = excluded.legal_name, country = excluded.country,
    home_currency = excluded.home_currency, fiscal_year_start = excluded.fiscal_year_start,
    time_zone_offset = excluded.time_zone_offset, read_at = excluded.read_at
WHERE excluded.read_at > held.read_at + interval '1 hour' OR excluded.read_at >= held.read_at AND
    (held.name, held.legal_name, held.country, held.home_currency, held.fiscal_year_start, held.time_zone_offset) IS DISTINCT FROM
    (excluded.name, excluded.legal_name, excluded.country, excluded.home_currency, excluded.fiscal_year_start, excluded.time_zone_offset)`

// KeepCompanies stores what is known of companies in the table company beside the sink's.
func (s *Sink) KeepCompanies(ctx context.Context, companies []sink.Company) error {
	if len(companies) == 0 {
		return nil
	}
	if err := s.ready(ctx); err != nil {
		return fmt.Errorf("write companies to %s: %w", s.company(), err)
	}
	if _, err := s.exec(ctx, s.names().Replace(keepCompanies), companyColumns(companies)...); err != nil {
		return fmt.Errorf("write companies to %s: %w", s.company(), s.classify(err))
	}
	return nil
}

// companyColumns are the arguments of keepCompanies, in the order of the keys, so that
// two processes lock the rows in the same order.
func companyColumns(companies []sink.Company) []any {
	order := func(a, b sink.Company) int { return cmp.Compare(a.Realm, b.Realm) }
	sorted := slices.SortedStableFunc(slices.Values(companies), order)
	sorted = slices.CompactFunc(sorted, func(a, b sink.Company) bool { return a.Realm == b.Realm })
	columns := make([][]string, 7)
	read := make([]time.Time, 0, len(sorted))
	for _, c := range sorted {
		for i, text := range []string{c.Realm, c.Name, c.LegalName, c.Country, c.HomeCurrency, c.FiscalYearStart, c.TimeZoneOffset} {
			columns[i] = append(columns[i], plain(text))
		}
		read = append(read, c.ReadAt)
	}
	args := make([]any, 0, len(columns)+1)
	for _, column := range columns {
		args = append(args, column)
	}
	return append(args, read)
}

func (s *Sink) company() string { return s.in(s.beside("company")) }
