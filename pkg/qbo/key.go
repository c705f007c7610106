package qbo

import (
	"bytes"
	"strings"
	"time"
)

// The key of a record is its Id, but for two entities:
//   - RecurringTransaction wraps the transaction that it repeats, as in
//     {"Bill":{"Id":"42",...}}. Its key is the Id inside, by which the API reads it;
//     SyncToken and MetaData are inside too.
//   - ExchangeRate has no Id. Its key is the source currency and the date, as in
//     "EUR-2026-11-30"; the target is always the company's home currency.
const (
	recurringTransaction = "RecurringTransaction"
	exchangeRate         = "ExchangeRate"
	currencyCode         = 3 // letters
)

// rateKey is the key of an exchange rate, or "" without a currency or a date.
func rateKey(currency, date string) string {
	currency, date = strings.TrimSpace(currency), strings.TrimSpace(date)
	if len(currency) != currencyCode || len(date) != len(time.DateOnly) {
		return ""
	}
	return currency + "-" + date
}

// splitRate is the opposite of rateKey.
func splitRate(id string) (currency, date string, ok bool) {
	currency, date, ok = strings.Cut(id, "-")
	return currency, date, ok && rateKey(currency, date) == id
}

// WithIDs is the condition of a Query for records by their keys, such as
// `Id IN ('1', '2')`. Exchange rates are asked for by currency and date: the answer
// may hold others of these currencies and dates as well.
func WithIDs(name string, ids []string) string {
	if name != exchangeRate {
		return in("Id", ids)
	}
	var currencies, dates []string
	seen := map[string]bool{}
	add := func(to []string, s string) []string {
		if seen[s] {
			return to
		}
		seen[s] = true
		return append(to, s)
	}
	for _, id := range ids {
		// A name that is no key matches nothing.
		currency, date, _ := strings.Cut(id, "-")
		currencies, dates = add(currencies, currency), add(dates, date)
	}
	return in("SourceCurrencyCode", currencies) + " AND " + in("AsOfDate", dates)
}

func in(field string, values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = Quote(v)
	}
	return field + " IN (" + strings.Join(quoted, ", ") + ")"
}

// unwrap returns the only member of an object, if that is an object with an Id: the
// transaction that a RecurringTransaction repeats.
func unwrap(raw []byte) (name, inner []byte, ok bool) {
	s := scanner{raw: raw}
	if s.space(); s.next() != '{' {
		return nil, nil, false
	}
	if more, ok := s.more('}', true); !more || !ok {
		return nil, nil, false
	}
	if name, ok = s.name(); !ok {
		return nil, nil, false
	}
	if s.space(); s.next() != '{' {
		return nil, nil, false
	}
	inner, ok = s.value()
	if !ok || !bytes.Contains(inner, []byte(`"Id"`)) {
		return nil, nil, false
	}
	more, ok := s.more('}', false)
	return name, inner, ok && !more
}
