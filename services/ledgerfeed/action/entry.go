package action

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// The ways by which people act.
const (
	Console = "console"
	API     = "api"
	CLI     = "cli"
	Connect = "connect"
)

// Entry is one action, or refused requests of one sender.
type Entry struct {
	ID string    `json:"id"` // unique
	At time.Time `json:"at"`
	// Who acted, and in which role. From is the address, or the machine; Request the id
	// of the HTTP request.
	Who     string `json:"who"`
	Role    string `json:"role,omitempty"`
	Via     string `json:"via,omitempty"`
	From    string `json:"from,omitempty"`
	Request string `json:"request_id,omitempty"`
	// What was done ("requeue") and On what ("sink crm").
	What string `json:"what"`
	On   string `json:"on,omitempty"`
	// Outcome is "done", or why it was not.
	Outcome string `json:"outcome"`
	// Count is how many refused requests it stands for, since Since.
	Count int       `json:"count,omitempty"`
	Since time.Time `json:"since,omitzero"`
	// Prev is the hash of the entry before; empty for the first.
	Prev string `json:"prev"`
}

// Stored is an entry of the trail. One that an earlier version wrote to Redis has no
// number and no hash.
type Stored struct {
	Entry
	Seq  uint64 `json:"seq,omitempty"`
	Hash string `json:"hash,omitempty"`
}

// MarshalLogObject makes it the fields of a log line.
func (e Entry) MarshalLogObject(o zapcore.ObjectEncoder) error {
	for _, f := range []struct{ key, value string }{
		{"action_id", e.ID}, {"who", e.Who}, {"role", e.Role}, {"via", e.Via}, {"address", e.From}, {"request_id", e.Request},
		{"what", e.What}, {"on", e.On}, {"outcome", e.Outcome},
	} {
		if f.value != "" {
			o.AddString(f.key, f.value)
		}
	}
	o.AddTime("at", e.At)
	if e.Count > 0 {
		o.AddInt("count", e.Count)
	}
	return nil
}

// hash names a stored message: what follows holds it.
func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// behind encodes the entry as the one that follows last.
func (e Entry) behind(last *stream.StoredAction) ([]byte, error) {
	e.Prev = ""
	if last != nil {
		e.Prev = hash(last.Data)
	}
	return json.Marshal(e)
}

func decode(s stream.StoredAction) (Stored, error) {
	stored := Stored{Seq: s.Seq, Hash: hash(s.Data)}
	if err := json.Unmarshal(s.Data, &stored.Entry); err != nil {
		return stored, fmt.Errorf("entry %d: %w", s.Seq, err)
	}
	return stored, nil
}
