package qbo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// Read reads one record by its id, and Intuit's clock at the answer (zero if it
// did not say). A record the API does not know is ErrNotFound; one it can show
// only as deleted is returned with Deleted set. Of CompanyInfo and Preferences a
// company has one, and the id is not sent.
func (c *Client) Read(ctx context.Context, realm, name, id string) (Entity, time.Time, error) {
	name = entity.Canonical(name)
	path, query, err := readPath(realm, name, id)
	if err != nil {
		return Entity{}, time.Time{}, err
	}
	var found Entity
	var at time.Time
	r := request{kind: "read", entity: name, realm: realm, method: http.MethodGet, path: path, query: query}
	err = c.do(ctx, r, func(header http.Header, body []byte) error {
		var err error
		found, at, err = decodeRead(name, id, body)
		if at.IsZero() {
			at = date(header)
		}
		return err
	})
	if err != nil {
		return Entity{}, time.Time{}, err
	}
	return found, at, nil
}

func readPath(realm, name, id string) (path string, query url.Values, err error) {
	query = url.Values{}
	switch name {
	case "CompanyInfo":
		return "companyinfo/" + url.PathEscape(realm), query, nil
	case "Preferences":
		return "preferences", query, nil
	case exchangeRate:
		currency, date, ok := splitRate(id)
		if !ok {
			return "", nil, fmt.Errorf("read: %q is not a currency and a date, as in EUR-2026-11-30", id)
		}
		query.Set("sourcecurrencycode", currency)
		query.Set("asofdate", date)
		return "exchangerate", query, nil
	}
	if !segment(name) || !segment(id) {
		return "", nil, errors.New("read: no usable entity name or id given")
	}
	return url.PathEscape(strings.ToLower(name)) + "/" + url.PathEscape(id), query, nil
}

// segment says whether s may stand in a path: it must not lead elsewhere.
func segment(s string) bool { return s != "" && s != "." && s != ".." }

// decodeRead reads {"Invoice":{...},"time":"..."}.
func decodeRead(name, id string, body []byte) (Entity, time.Time, error) {
	if f := xmlFault(body); f != nil {
		return Entity{}, time.Time{}, f.inAnswer()
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(trim(body), &members); err != nil {
		return Entity{}, time.Time{}, fmt.Errorf("%w: read %s: %w", ErrMalformed, name, err)
	}
	var record json.RawMessage
	var at time.Time
	for key, raw := range members {
		switch {
		case strings.EqualFold(key, "fault"):
			if f := decodeFaultValue(raw); f != nil {
				return Entity{}, time.Time{}, f.inAnswer()
			}
		case strings.EqualFold(key, "time"):
			var t text
			_ = t.UnmarshalJSON(raw) // an odd time is no time
			at = parseTime(string(t))
		case entity.Canonical(key) == name || strings.EqualFold(key, name):
			record = raw
		}
	}
	if record == nil {
		return Entity{}, time.Time{}, fmt.Errorf("%w: read %s: the answer has no record", ErrMalformed, name)
	}
	e, err := decodeEntity(name, record)
	if err != nil {
		return Entity{}, time.Time{}, err
	}
	single := name == "CompanyInfo" || name == "Preferences"
	if e.ID == "" || e.ID != id && !single {
		return Entity{}, time.Time{}, fmt.Errorf("%w: read %s: the answer has another id", ErrMalformed, name)
	}
	return e, at, nil
}
