package processor

import (
	"context"
	"errors"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// CompanyKeeper is a sink that keeps the names of companies beside the changes.
type CompanyKeeper interface {
	// KeepCompanies stores what is known of companies; the same may come again.
	KeepCompanies(ctx context.Context, companies []sink.Company) error
}

const (
	// companiesEvery is how often a sink is told of companies that scans have read.
	companiesEvery  = 30 * time.Second
	companiesAtOnce = 200
)

// keepCompanies tells a sink of the companies if it keeps them, until ctx ends: all of them
// at its start, then those that were read since.
func (p *Processor) keepCompanies(ctx context.Context, out *output) error {
	keeper, ok := ability[CompanyKeeper](out.Sink)
	if !ok {
		return nil
	}
	since := time.Time{}
	for ctx.Err() == nil {
		var err error
		if since, err = p.tellCompanies(ctx, keeper, since); err != nil && ctx.Err() == nil {
			p.log.Debug("companies not written to sink, will retry", telemetry.Sink(out.Name()), telemetry.Error(err))
		}
		_ = lifecycle.Sleep(ctx, p.companies) // it fails once ctx has ended
	}
	return nil
}

// tellCompanies tells of those read since then, and returns when the last of them was. Those
// of that very moment come again: another one may have been read in it.
func (p *Processor) tellCompanies(ctx context.Context, keeper CompanyKeeper, since time.Time) (time.Time, error) {
	for {
		read, err := p.state.CompaniesRead(ctx, since, companiesAtOnce)
		if err != nil || len(read) == 0 {
			return since, err
		}
		realms := make([]string, len(read))
		for i, r := range read {
			realms[i] = r.Realm
		}
		known, err := p.state.Companies(ctx, realms)
		if err != nil {
			return since, err
		}
		companies := make([]sink.Company, len(known))
		for i, c := range known {
			companies[i] = sink.Company{
				Realm: c.Realm, Name: c.Name, LegalName: c.LegalName, Country: c.Country, HomeCurrency: c.HomeCurrency,
				FiscalYearStart: c.FiscalYearStart, TimeZoneOffset: c.TimeZoneOffset, ReadAt: c.ReadAt,
			}
		}
		write, cancel := context.WithTimeout(ctx, p.config.WriteTimeout)
		err = keeper.KeepCompanies(write, companies)
		cancel()
		if err != nil {
			return since, err
		}
		last := read[len(read)-1].At
		switch {
		case len(read) < companiesAtOnce:
			return last, nil
		case !last.After(since):
			return since, errTooManyAtOnce
		}
		since = last
	}
}

var errTooManyAtOnce = errors.New("too many companies were read in the same millisecond for one write")
