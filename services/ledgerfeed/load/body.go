package load

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// template is a body in which the ids and times are written anew for each
// request, so that one is made and signed in some microseconds: the generator
// shares the machine with what it measures. One belongs to one goroutine.
type template struct {
	body      []byte
	places    []place
	events    uint64
	occurred  time.Time // of request 0
	firstID   uint64    // how far the first entity id is above lowestID
	timeForm  string
	signer    hash.Hash
	sum       []byte
	signature []byte
}

// place is where an event's changing fields are in the body.
type place struct {
	event  int // last group of the event's UUID; 0: the format has no event ids
	entity int
	time   int
}

const (
	ceTime     = "2006-01-02T15:04:05.000000000Z"
	legacyTime = "2006-01-02T15:04:05.000Z"
	// Entity ids all have nine digits, so that they can be replaced in place.
	lowestID, idRange = 100_000_000, 900_000_000
)

// newTemplate writes the body of request 0. Equal options, seed and run
// included, make equal bodies.
func newTemplate(o Options) *template {
	t := &template{
		events:   uint64(o.Events),
		occurred: time.Unix(0, o.RunID).UTC(),
		firstID:  mix(o) % idRange,
		timeForm: ceTime,
	}
	if o.Format == webhook.Legacy {
		t.timeForm = legacyTime
		t.legacy(o)
	} else {
		t.cloudEvents(o)
	}
	t.sign(o.Token)
	return t
}

// clone is for another goroutine.
func (t *template) clone(token secret.String) *template {
	c := *t
	c.body = slices.Clone(t.body)
	c.sign(token)
	return &c
}

func (t *template) sign(token secret.String) {
	t.signer = hmac.New(sha256.New, []byte(token.Reveal()))
	t.sum, t.signature = nil, nil
}

// mix turns seed and run into 64 bits that have nothing to do with those of
// another seed or run.
func mix(o Options) uint64 {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], o.Seed)
	binary.BigEndian.PutUint64(b[8:], uint64(o.RunID))
	sum := sha256.Sum256(b[:])
	return binary.BigEndian.Uint64(sum[:])
}

// realm is a company id as Intuit's look.
func realm(o Options, i int) string {
	return fmt.Sprintf("93414%05d%06d", o.Seed%100_000, i%o.Realms)
}

// cloudEvents has the fields of Intuit's sample, in its order.
func (t *template) cloudEvents(o Options) {
	m := mix(o)
	for i := range o.Events {
		t.add(`%s{"specversion":"1.0","id":"%08x-%04x-4%03x-8%03x-`, "[,"[min(i, 1):min(i, 1)+1], uint32(m>>32), uint16(m>>16), i, m&0xfff)
		event := t.addField("000000000000")
		t.add(`","source":"intuit.dsnBgbseACLLRZNxo2dfc4evmEJdxde58xeeYcZliOU=","type":"qbo.invoice.updated.v1","datacontenttype":"application/json","time":"`)
		at := t.addField(ceTime)
		t.add(`","intuitentityid":"`)
		t.places = append(t.places, place{event: event, time: at, entity: t.addField("100000000")})
		t.add(`","intuitaccountid":"%s","data":{}}`, realm(o, i))
	}
	t.add("]")
}

func (t *template) legacy(o Options) {
	t.add(`{"eventNotifications":[`)
	for r := range o.Realms {
		t.add(`%s{"realmId":"%s","dataChangeEvent":{"entities":[`, comma(r), realm(o, r))
		for i := r; i < o.Events; i += o.Realms {
			t.add(`%s{"name":"Invoice","id":"`, comma(i/o.Realms))
			entity := t.addField("100000000")
			t.add(`","operation":"Update","lastUpdated":"`)
			t.places = append(t.places, place{entity: entity, time: t.addField(legacyTime)})
			t.add(`"}`)
		}
		t.add("]}}")
	}
	t.add("]}")
}

func comma(i int) string { return strings.Repeat(",", min(i, 1)) }

func (t *template) add(format string, args ...any) {
	t.body = fmt.Appendf(t.body, format, args...)
}

// addField adds a field of so many bytes and says where it is.
func (t *template) addField(text string) (at int) {
	t.body = append(t.body, text...)
	return len(t.body) - len(text)
}

// next returns the body of request n and its signature; both are valid until
// the next call. Its events occurred n microseconds after those of request 0:
// a body depends on nothing that another run could not repeat.
func (t *template) next(n uint64) (body, signature []byte) {
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], n)
	var group [12]byte
	hex.Encode(group[:], number[2:])
	var room [len(ceTime)]byte
	at := t.occurred.Add(time.Duration(n)*time.Microsecond).AppendFormat(room[:0], t.timeForm)
	for i, p := range t.places {
		if p.event > 0 {
			copy(t.body[p.event:], group[:])
		}
		copy(t.body[p.time:], at)
		strconv.AppendUint(t.body[p.entity:p.entity], lowestID+(t.firstID+n*t.events+uint64(i))%idRange, 10)
	}
	t.signer.Reset()
	t.signer.Write(t.body)
	t.sum = t.signer.Sum(t.sum[:0])
	t.signature = base64.StdEncoding.AppendEncode(t.signature[:0], t.sum)
	return t.body, t.signature
}
