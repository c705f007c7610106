package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// letterRow is a dead letter in a list.
type letterRow struct {
	Seq      uint64        `json:"seq"`
	At       time.Time     `json:"at"`
	Reason   stream.Reason `json:"reason"`
	Words    string        `json:"reason_text"`
	Realm    string        `json:"realm,omitempty"`
	Sink     string        `json:"sink,omitempty"`
	Record   string        `json:"record,omitempty"`
	Attempts int           `json:"attempts"`
	Error    string        `json:"last_error,omitempty"`
}

func letterRowOf(d stream.DeadLetter) letterRow {
	r := letterRow{
		Seq: d.Seq, At: d.At.UTC(), Reason: d.Reason, Words: d.Reason.String(), Realm: d.RealmID, Sink: d.Sink, Attempts: d.Attempts, Error: d.Detail,
	}
	if events := d.Envelope.GetEvents(); len(events) > 0 {
		r.Record = events[0].GetEntity() + " " + events[0].GetEntityId()
		if len(events) > 1 {
			r.Record += fmt.Sprintf(" and %d more", len(events)-1)
		}
	}
	return r
}

// reasonCount is how many letters there are for a reason.
type reasonCount struct {
	Key    string        `json:"-"`
	Reason stream.Reason `json:"reason"`
	Words  string        `json:"text"`
	Count  uint64        `json:"count"`
}

// deadView is the page Dead letters.
type deadView struct {
	Filter  map[string]string `json:"-"`
	Any     bool              `json:"-"` // something is filtered
	Reasons []reasonCount     `json:"reasons"`
	Letters []letterRow       `json:"letters"`
	Total   uint64            `json:"total"`
	// Companies are the names of the companies by realm.
	Companies map[string]string `json:"companies,omitempty"`
}

const lettersShown = 100

// filter is the one that the query or the form names.
func letterFilter(c echo.Context) (stream.DeadFilter, map[string]string) {
	given := map[string]string{}
	for _, p := range letterParams("") {
		given[p.name] = strings.TrimSpace(c.FormValue(p.name))
	}
	f := stream.DeadFilter{RealmID: given["realm"], Entity: entity.Canonical(given["entity"]), EntityID: given["id"], Sink: given["sink"]}
	if given["reason"] != "" {
		f.Reasons = []stream.Reason{stream.Reason(given["reason"])}
	}
	return f, given
}

func (s *Server) deadList(c echo.Context) (any, error) {
	ctx := c.Request().Context()
	f, given := letterFilter(c)
	v := deadView{Filter: given, Any: !f.All(), Letters: []letterRow{}}
	counts, err := s.o.Stream.DeadCounts(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range slices.Sorted(maps.Keys(counts)) {
		v.Reasons = append(v.Reasons, reasonCount{string(r), r, r.String(), counts[r]})
		v.Total += counts[r]
	}
	var letters []stream.DeadLetter
	if f.All() {
		letters, err = s.o.Stream.DeadLetters(ctx, lettersShown)
	} else {
		err = s.o.Stream.EachDead(ctx, f, func(d stream.DeadLetter) error {
			letters = append(letters, d)
			letters = letters[max(0, len(letters)-lettersShown):]
			return nil
		})
		slices.Reverse(letters)
	}
	if err != nil {
		return nil, err
	}
	for _, d := range letters {
		v.Letters = append(v.Letters, letterRowOf(d))
	}
	v.Companies, err = companies(ctx, s, v.Letters, func(l letterRow) string { return l.Realm })
	return v, err
}

// letterView is the page of one dead letter.
type letterView struct {
	letterRow
	Company    string          `json:"company,omitempty"`
	App        string          `json:"app,omitempty"`
	FirstSeen  time.Time       `json:"first_seen,omitzero"`
	FirstError string          `json:"first_error,omitempty"`
	Parsed     json.RawMessage `json:"parsed,omitempty"`
	Raw        string          `json:"raw,omitempty"`
	RawBytes   []byte          `json:"raw_base64,omitempty"`
	// Hidden says that there are raw bytes, which only operators may see.
	Hidden bool `json:"raw_hidden,omitempty"`
}

func seqOf(text string) (uint64, error) {
	seq, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, problem(http.StatusBadRequest, "No such number", "Give the number of a dead letter, as the page Dead letters shows it.")
	}
	return seq, nil
}

func (s *Server) letter(c echo.Context) (any, error) {
	seq, err := seqOf(c.Param("seq"))
	if err != nil {
		return nil, err
	}
	d, err := s.o.Stream.DeadLetter(c.Request().Context(), seq)
	if err != nil {
		return nil, err
	}
	v := letterView{letterRow: letterRowOf(d), App: d.App, FirstError: d.FirstError}
	if v.Company, err = s.companyOf(c.Request().Context(), v.Realm); err != nil {
		return nil, err
	}
	if !d.FirstSeen.IsZero() {
		v.FirstSeen = d.FirstSeen.UTC()
	}
	if d.Envelope != nil {
		if v.Parsed, err = (protojson.MarshalOptions{UseProtoNames: true, Multiline: true}).Marshal(d.Envelope); err != nil {
			return nil, err
		}
	}
	switch {
	case len(d.Body) > 0 && who(c).Role < operator:
		v.Hidden = true // what Intuit sent may hold the books of a company
	case utf8.Valid(d.Body):
		v.Raw = string(d.Body)
	default:
		v.RawBytes = d.Body
	}
	return v, nil
}

func (s *Server) requeue(c echo.Context) (result, error) {
	return s.eachLetter(c, "requeued", func(ctx context.Context, d stream.DeadLetter) error {
		_, err := s.o.Stream.Requeue(ctx, d)
		return err
	})
}

func (s *Server) purge(c echo.Context) (result, error) {
	return s.eachLetter(c, "purged", func(ctx context.Context, d stream.DeadLetter) error { return s.o.Stream.DeleteDead(ctx, d.Seq) })
}

// mostLetters bounds one request; what is left is for the next one.
const mostLetters = 1000

var errEnough = errors.New("enough")

// chosen are the letters that a form means. They are fixed before anything is done: one
// that is requeued may die again, and shall not be requeued for ever.
func (s *Server) chosen(ctx context.Context, c echo.Context) (letters []stream.DeadLetter, on string, err error) {
	if text := c.FormValue("seq"); text != "" {
		seq, err := seqOf(text)
		if err != nil {
			return nil, text, err
		}
		d, err := s.o.Stream.DeadLetter(ctx, seq)
		return []stream.DeadLetter{d}, "letter " + text, err
	}
	f, given := letterFilter(c)
	if f.All() != (c.FormValue("all") == "true") {
		return nil, "", problem(http.StatusBadRequest, "Which letters?", "Give either seq, or a filter, or all=true.")
	}
	on = "all letters"
	if !f.All() {
		var parts []string
		for _, p := range letterParams("") {
			if given[p.name] != "" {
				parts = append(parts, p.name+" "+given[p.name])
			}
		}
		on = "letters of " + strings.Join(parts, ", ")
	}
	err = s.o.Stream.EachDead(ctx, f, func(d stream.DeadLetter) error {
		letters = append(letters, d)
		if len(letters) == mostLetters {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return letters, on, err
}

func (s *Server) eachLetter(c echo.Context, done string, do func(context.Context, stream.DeadLetter) error) (result, error) {
	ctx := c.Request().Context()
	r := result{Back: "/dead"}
	letters, on, err := s.chosen(ctx, c)
	if r.On = on; err != nil {
		return r, err
	}
	worked, first := 0, error(nil)
	for _, d := range letters {
		err := do(ctx, d)
		switch {
		case err == nil:
			worked++
		case errors.Is(err, stream.ErrNoDeadLetter): // somebody else was faster
		case first == nil:
			first = err
		}
	}
	r.Data = map[string]int{"worked": worked, "meant": len(letters)}
	r.Message = fmt.Sprintf("%d of %d dead letters %s.", worked, len(letters), done)
	if len(letters) == mostLetters {
		r.Message += " There may be more: do it again."
	}
	if first != nil {
		if worked == 0 {
			r.Back = "/dead/" + url.PathEscape(c.FormValue("seq"))
			return r, problem(http.StatusUnprocessableEntity, "Not "+done, first.Error())
		}
		r.Message += " The first that stays: " + first.Error()
	}
	return r, nil
}
