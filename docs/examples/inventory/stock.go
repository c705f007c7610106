package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// change is what we need of a CloudEvent of Ledgerfeed.
type change struct {
	Realm, Entity string
	ID            string `json:"entityid"`
	Version       int64  `json:"entityversion,string"`
	Deleted       bool
	Learned       string
	ReadAt        time.Time
	Data          json.RawMessage
}

var errUnreadable = errors.New("not an invoice")

// apply takes the items of an invoice out of the stock, or, if the invoice is
// known, the difference to what it took before: all of it once, or nothing. The
// key is the invoice and its version, which is what the webhook-id says, too.
func (i *inventory) apply(ctx context.Context, c change) error {
	if c.Entity != "Invoice" {
		return nil
	}
	items, quantities, err := c.takes()
	if err != nil {
		return err
	}
	args := pgx.NamedArgs{"realm": c.Realm, "invoice": c.ID, "version": c.Version, "read_at": c.ReadAt, "restored": c.Learned == "restored", "deleted": c.Deleted, "items": items, "quantities": quantities}
	return pgx.BeginFunc(ctx, i.db, func(tx pgx.Tx) error {
		newer, err := tx.Exec(ctx, claim, args)
		if err != nil || newer.RowsAffected() == 0 {
			return err // nil: a newer version is applied
		}
		for _, statement := range []string{adjust, forget, remember} {
			if _, err := tx.Exec(ctx, statement, args); err != nil {
				return err
			}
		}
		return nil
	})
}

const (
	// The row stays locked until the transaction ends: however many workers there
	// are, an invoice is adjusted for by one at a time. The version it has is let in,
	// for a replay and for another document of that version; its difference is nothing
	// if it comes twice. A restored invoice replaces a deletion that was wrong, which
	// has the higher version.
	claim = `INSERT INTO invoice (realm, id, version, read_at, deleted) VALUES (@realm, @invoice, @version, @read_at, @deleted)
		ON CONFLICT (realm, id) DO UPDATE SET version = excluded.version, read_at = excluded.read_at, deleted = excluded.deleted
		WHERE invoice.version < excluded.version
			OR (invoice.version = excluded.version OR invoice.deleted AND @restored) AND invoice.read_at <= excluded.read_at`
	// In the order of the items, so that two invoices never wait for each other.
	adjust = `WITH now AS (` + wanted + `), before AS (SELECT item, quantity FROM taken WHERE realm = @realm AND invoice = @invoice)
		INSERT INTO stock AS s (realm, item, quantity)
		SELECT @realm, item, coalesce(before.quantity, 0) - coalesce(now.quantity, 0) FROM now FULL JOIN before USING (item)
		WHERE now.quantity IS DISTINCT FROM before.quantity ORDER BY item
		ON CONFLICT (realm, item) DO UPDATE SET quantity = s.quantity + excluded.quantity`
	forget   = `DELETE FROM taken WHERE realm = @realm AND invoice = @invoice`
	remember = `INSERT INTO taken (realm, invoice, item, quantity) SELECT @realm, @invoice, item, quantity FROM (` + wanted + `) AS now`
	wanted   = `SELECT item, sum(quantity) AS quantity FROM unnest(@items::text[], @quantities::text[]::numeric[]) AS l (item, quantity) GROUP BY item`
)

// line is a line of an invoice. A bundle has lines of its own.
type line struct {
	SalesItemLineDetail struct {
		ItemRef struct{ Value string }
		Qty     json.Number // absent from lines that are an amount only
	}
	GroupLineDetail struct{ Line []line }
}

// takes is what the invoice takes out of the stock: nothing if it is deleted, or
// void, when QuickBooks keeps its lines.
func (c change) takes() (items, quantities []string, err error) {
	if c.Deleted {
		return nil, nil, nil
	}
	var invoice struct {
		PrivateNote string
		TotalAmt    float64
		Line        []line
	}
	if json.Unmarshal(c.Data, &invoice) != nil {
		return nil, nil, errUnreadable
	}
	if invoice.TotalAmt == 0 && strings.HasPrefix(invoice.PrivateNote, "Voided") {
		return nil, nil, nil
	}
	var walk func([]line)
	walk = func(lines []line) {
		for _, l := range lines {
			if d := l.SalesItemLineDetail; d.ItemRef.Value != "" && d.Qty != "" {
				items, quantities = append(items, d.ItemRef.Value), append(quantities, d.Qty.String())
			}
			walk(l.GroupLineDetail.Line)
		}
	}
	walk(invoice.Line)
	return items, quantities, nil
}
