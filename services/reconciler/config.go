package reconciler

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// ReconcilerConfig is what an operator sets of the reconciler.
type ReconcilerConfig struct {
	Interval            time.Duration `koanf:"interval" doc:"Default interval between scans of a realm; busy realms are scanned more often. Each scan of a quiet realm is one metered call; QuickBooks reports deletions for 30 days only."`
	MinInterval         time.Duration `koanf:"min_interval" doc:"Minimum interval between scans of a realm. A busy realm is scanned so often that a scan finds about 300 changes."`
	DormantInterval     time.Duration `koanf:"dormant_interval" doc:"Maximum interval between scans of a realm without changes for a month, by scans and webhooks; its interval grows to a tenth of its quiet time. Values up to reconciler.interval turn this off."`
	QueryInterval       time.Duration `koanf:"query_interval" doc:"Interval between reads of an entity that only Query can find, where a company uses it: one metered call (two above 500 records). Where it does not, one call counts its records in every second interval. Reads are spread over the interval. A scan after an outage covers the entities in use, a requested scan all. 0 = seven intervals."`
	UnannouncedInterval time.Duration `koanf:"unannounced_interval" doc:"The same for entities that send no webhooks (CreditCardPayment, TaxPayment, …), and the longest time between two reads where a company uses one: while its records change it is read with each daily scan, later after a tenth of the time since the last change. 0 means query_interval."`
	StartJitter         time.Duration `koanf:"start_jitter" doc:"After an outage of the ingress and at the first start, spread the scans of all realms at random over this time."`
	OutageGap           time.Duration `koanf:"outage_gap" doc:"When nothing was heard of the ingress for that long, webhooks may have been lost: all realms become due once it is over. Where no reconciler listened, the broker's record of the last hour tells; without one, ten minutes count."`
	Grace               time.Duration `koanf:"grace" doc:"Leave changes younger than this, by Intuit's clock, to their webhooks."`
	RefreshReferenced   bool          `koanf:"refresh_referenced" doc:"Read once a day the accounts, customers, items and vendors that the day's transactions reference, so that derived fields (Balance, CurrentBalance, QtyOnHand) are a day old at most even where QuickBooks moves neither LastUpdatedTime nor SyncToken. Up to four metered calls for a company with transactions that day."`
	RefreshCompany      time.Duration `koanf:"refresh_company" doc:"Maximum age of the company data that people see (name, country, currency, fiscal year, time zone). When scans have not read CompanyInfo for that long, one call does (0 = never)."`
	RetryInterval       time.Duration `koanf:"retry_interval" doc:"Delay before a failed scan of a realm is retried. It doubles after each further failure, up to reconciler.interval."`
	HealInterval        time.Duration `koanf:"heal_interval" doc:"Interval at which the list of realms and the schedule are compared, to restore entries of one that Redis evicted or somebody deleted from the other."`
	Realms              int           `koanf:"realms" doc:"Maximum number of realms scanned at the same time."`
	CDCEntities         []string      `koanf:"cdc_entities" doc:"Entities to scan by ChangeDataCapture, all in one call."`
	QueryEntities       []string      `koanf:"query_entities" doc:"Entities to scan by Query, because ChangeDataCapture does not cover them."`
	VerifyEvery         time.Duration `koanf:"verify_every" doc:"Interval at which to check whether the changes that a scan published are delivered."`
	VerifyTimeout       time.Duration `koanf:"verify_timeout" doc:"Abandon a scan when none of its changes was delivered for this long; the next scan finds them again."`
	PollInterval        time.Duration `koanf:"poll_interval" doc:"Interval at which to look for realms that are due."`
	LeaseTTL            time.Duration `koanf:"lease_ttl" doc:"Time that a realm stays locked after the replica that scanned it crashed."`
}

// DefaultReconcilerConfig scans each realm once a day.
func DefaultReconcilerConfig() ReconcilerConfig {
	return ReconcilerConfig{
		Interval:        24 * time.Hour,
		MinInterval:     5 * time.Minute,
		DormantInterval: maxInterval,
		StartJitter:     5 * time.Minute,
		OutageGap:       30 * time.Second,
		Grace:           5 * time.Minute,
		RefreshCompany:  7 * 24 * time.Hour,
		RetryInterval:   5 * time.Minute,
		HealInterval:    5 * time.Minute,
		Realms:          4,
		CDCEntities:     entity.CDC(),
		QueryEntities:   queryEntities(),
		VerifyEvery:     time.Second,
		VerifyTimeout:   10 * time.Minute,
		PollInterval:    time.Second,
		LeaseTTL:        10 * time.Second,
	}
}

// queryEntities are the entities that CDC leaves out, or was never seen to serve: only
// Query finds their changes.
func queryEntities() []string {
	return slices.DeleteFunc(entity.Queryable(), func(name string) bool {
		info, _ := entity.Lookup(name)
		return info.CDC
	})
}

// maxInterval leaves CDC's look-back of 30 days five days of room for retries.
const maxInterval = 25 * 24 * time.Hour

// Validate names every setting that cannot be used, its value and what would do.
func (c ReconcilerConfig) Validate() error {
	var errs []error
	bad := func(ok bool, key string, value any, want string) {
		if !ok {
			errs = append(errs, fmt.Errorf("reconciler.%s %v: %s", key, value, want))
		}
	}
	bad(c.Interval > 0 && c.Interval <= maxInterval, "interval", c.Interval, "give a duration up to 600h (25 days)")
	bad(c.MinInterval > 0, "min_interval", c.MinInterval, "give a positive duration")
	bad(c.DormantInterval >= 0 && c.DormantInterval <= maxInterval, "dormant_interval", c.DormantInterval, "give a duration up to 600h (25 days), or 0 to scan every realm once an interval")
	bad(c.OutageGap >= time.Second, "outage_gap", c.OutageGap, "give at least 1s; the ingress beats every 5s")
	bad(c.QueryInterval >= 0, "query_interval", c.QueryInterval, "give a positive duration, or 0 for seven intervals")
	bad(c.UnannouncedInterval >= 0, "unannounced_interval", c.UnannouncedInterval, "give a positive duration, or 0 for query_interval")
	bad(c.StartJitter >= 0, "start_jitter", c.StartJitter, "give a positive duration or 0")
	bad(c.Grace >= 0 && c.Grace <= 24*time.Hour, "grace", c.Grace, "give a duration from 0 to 24h")
	bad(c.RefreshCompany == 0 || c.RefreshCompany >= time.Hour, "refresh_company", c.RefreshCompany, "give at least 1h, or 0 for never")
	bad(c.RetryInterval > 0, "retry_interval", c.RetryInterval, "give a positive duration")
	bad(c.HealInterval > 0, "heal_interval", c.HealInterval, "give a positive duration")
	bad(c.Realms > 0, "realms", c.Realms, "give at least 1")
	bad(c.VerifyEvery > 0, "verify_every", c.VerifyEvery, "give a positive duration")
	bad(c.VerifyTimeout > c.VerifyEvery, "verify_timeout", c.VerifyTimeout, "give more than verify_every")
	bad(c.PollInterval > 0, "poll_interval", c.PollInterval, "give a positive duration")
	bad(c.LeaseTTL >= time.Second, "lease_ttl", c.LeaseTTL, "give at least 1s")
	bad(len(c.CDCEntities)+len(c.QueryEntities) > 0, "cdc_entities", c.CDCEntities, "name at least one entity here or in query_entities")
	for _, name := range c.QueryEntities {
		bad(!slices.Contains(c.CDCEntities, name), "query_entities", name, "it is in cdc_entities already; name it once")
	}
	return errors.Join(errs...)
}

func (c ReconcilerConfig) queryInterval() time.Duration {
	if c.QueryInterval > 0 {
		return c.QueryInterval
	}
	return 7 * c.Interval
}

func (c ReconcilerConfig) unannouncedInterval() time.Duration {
	if c.UnannouncedInterval > 0 {
		return c.UnannouncedInterval
	}
	return c.queryInterval()
}
