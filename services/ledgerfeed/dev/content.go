package dev

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"

	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// content identifies a document; the zero value is no document.
type content [sha256.Size]byte

// contentOf hashes a document as canonical JSON: keys sorted, no white space. It
// leaves out what says nothing about the record: MetaData, which the version
// stands for, and domain, sparse and status, which depend on the call.
func contentOf(document []byte) content {
	if len(document) == 0 {
		return content{}
	}
	var fields map[string]any
	d := json.NewDecoder(bytes.NewReader(document))
	d.UseNumber() // 100.00 must not become 100
	if err := d.Decode(&fields); err != nil {
		return sha256.Sum256(document)
	}
	for _, name := range []string{"MetaData", "domain", "sparse", "status"} {
		delete(fields, name)
	}
	canonical, err := json.Marshal(fields)
	if err != nil {
		return sha256.Sum256(document)
	}
	return sha256.Sum256(canonical)
}

// holding is the newest a sink holds of one entity.
type holding struct {
	sink.Row
	content content // zero for a tombstone
}

// snapshot is all that a sink holds.
type snapshot = map[sink.Ref]holding
