package qbosim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// fields is a record as the API shows it, numbers as json.Number.
type fields map[string]any

// kept are the fields that only the simulator writes.
var kept = [...]string{"Id", "SyncToken", "MetaData", "domain", "sparse", "status"}

func (f fields) merge(given map[string]any) error {
	for _, name := range kept {
		if _, ok := given[name]; ok {
			return fmt.Errorf("field %s: only QuickBooks writes it", name)
		}
	}
	for name, value := range given {
		f[name] = value
	}
	return nil
}

func (f fields) inactive() bool {
	active, ok := f["Active"].(bool)
	return ok && !active
}

// parse reads what render wrote.
func parse(raw []byte) (fields, error) {
	f := fields{}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&f); err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	if wrapped, ok := f[repeated].(map[string]any); ok && len(f) == 1 {
		return wrapped, nil
	}
	return f, nil
}

const (
	recurringTransaction = "RecurringTransaction"
	exchangeRate         = "ExchangeRate"
	// repeated is what a RecurringTransaction wraps here: {"Bill": {"Id": ...}}.
	repeated = "Bill"
)

// shape makes the document of an entity that has one of its own: a transaction that is
// repeated is wrapped, an exchange rate has no Id.
func shape(name string, f fields) any {
	switch name {
	case recurringTransaction:
		return map[string]any{repeated: f}
	case exchangeRate:
		delete(f, "Id")
	}
	return f
}

// key is the id of an exchange rate, which has none: "EUR-2026-11-30".
func (f fields) rateKey() string { return fmt.Sprintf("%v-%v", f["SourceCurrencyCode"], f["AsOfDate"]) }

// spelled is the name of an entity in answers.
func spelled(name string) string {
	if name == "CreditCardPayment" {
		return "CreditCardPaymentTxn"
	}
	return name
}

// render writes the record with what QuickBooks adds.
func (f fields) render(name, id, syncToken, created, updated string) ([]byte, error) {
	f["domain"] = "QBO"
	f["sparse"] = false
	f["Id"] = id
	f["SyncToken"] = syncToken
	f["MetaData"] = map[string]any{"CreateTime": created, "LastUpdatedTime": updated}
	raw, err := json.Marshal(shape(name, f))
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return raw, nil
}

// renderDeleted is the object that CDC shows of a deleted record.
func renderDeleted(id, updated string) ([]byte, error) {
	return json.Marshal(map[string]any{
		"domain": "QBO", "status": "Deleted", "Id": id,
		"MetaData": map[string]any{"LastUpdatedTime": updated},
	})
}

// apiTime is a time as records show it: whole seconds, mostly with the offset
// of California.
func apiTime(t time.Time, rng *rand.Rand) string {
	return t.In(pick(rng, zones[:])).Format(time.RFC3339)
}

var zones = [...]*time.Location{
	time.FixedZone("", -8*3600), time.FixedZone("", -8*3600), time.FixedZone("", -7*3600), time.UTC,
}

// money is a number of cents.
type money int64

// MarshalJSON writes it as QuickBooks does: a number with cents.
func (m money) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%d.%02d", m/100, m%100), nil
}

// reference points at another record, as CustomerRef and the like do.
func reference(id, name string) map[string]any {
	return map[string]any{"value": id, "name": name}
}

func quantity(n int) json.Number { return json.Number(fmt.Sprint(n)) }

// void is what voiding leaves of a transaction.
func (f fields) void() {
	f["PrivateNote"] = "Voided"
	for _, name := range []string{"TotalAmt", "Balance", "UnappliedAmt"} {
		if _, ok := f[name]; ok || name == "TotalAmt" {
			f[name] = money(0)
		}
	}
	lines, _ := f["Line"].([]any)
	for _, l := range lines {
		if line, ok := l.(map[string]any); ok {
			line["Amount"] = money(0)
		}
	}
}

const deletedSuffix = " (deleted)"

// setActive renames as QuickBooks does, so that the name is free again.
func (f fields) setActive(active bool) {
	f["Active"] = active
	for _, key := range []string{"DisplayName", "Name", "FullyQualifiedName"} {
		name, ok := f[key].(string)
		if !ok {
			continue
		}
		name = strings.TrimSuffix(name, deletedSuffix)
		if !active {
			name += deletedSuffix
		}
		f[key] = name
	}
}
