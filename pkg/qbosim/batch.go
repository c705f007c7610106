package qbosim

import (
	"encoding/json"
	"net/http"
)

const maxBatchItems = 30

type batchItem struct {
	BID      string `json:"bId"`
	Query    string
	CDCQuery *struct{ Entities, ChangedSince string }
}

// serveBatch answers the items one after the other. Writes are refused: they
// are made through the control API.
func (s *Sim) serveBatch(c *call) ([]byte, *fault) {
	var asked struct{ BatchItemRequest []batchItem }
	body := http.MaxBytesReader(nil, c.Body, 1<<20)
	if err := json.NewDecoder(body).Decode(&asked); err != nil {
		return nil, &fault{http.StatusBadRequest, "ValidationFault", "2010", "Request has invalid or unsupported property", "the body is no batch"}
	}
	if n := len(asked.BatchItemRequest); n == 0 || n > maxBatchItems {
		return nil, &fault{http.StatusBadRequest, "ValidationFault", "1040", "Batch limit", "give 1 to 30 items in a batch"}
	}
	c.realm.mu.RLock()
	defer c.realm.mu.RUnlock()
	now := s.clockLocked(c.realm)
	var answers []any
	for _, item := range asked.BatchItemRequest {
		answer := map[string]any{"bId": item.BID}
		var part []byte
		var f *fault
		switch {
		case item.Query != "":
			part, f = c.queryLocked(now, item.Query)
			answer["QueryResponse"] = json.RawMessage(part)
		case item.CDCQuery != nil:
			part, f = s.cdcLocked(c, now, item.CDCQuery.Entities, item.CDCQuery.ChangedSince)
			answer["CDCResponse"] = json.RawMessage(part)
		default:
			f = &fault{http.StatusBadRequest, "ValidationFault", "500", "Unsupported Operation", "only Query and CDCQuery are supported"}
		}
		if c.answer != nil && c.answer.Code == "" {
			return nil, f // what is no Fault cannot be of one item
		}
		if f != nil {
			answer = map[string]any{"bId": item.BID, "Fault": f.body()}
		}
		answers = append(answers, answer)
	}
	out, err := json.Marshal(map[string]any{"BatchItemResponse": answers, "time": s.clockText(c, now)})
	if err != nil {
		return nil, systemFault(http.StatusInternalServerError)
	}
	return out, nil
}
