package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Position is how far the event stream is, for who wants to know whether it has lost
// something since he last looked. Times are the broker's.
type Position struct {
	// Created tells one stream from the next of its name.
	Created time.Time
	// First and Last are sequences of messages; First is Last+1 where there is none.
	First, Last uint64
	// Oldest and Newest are when those messages were stored; Oldest is zero where
	// there is none.
	Oldest, Newest time.Time
	// Lost is how many messages the broker itself says it can no longer read.
	Lost int
}

// Position asks the broker.
func (c *Conn) Position(ctx context.Context) (Position, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	// By hand: the client's StreamState leaves out what was lost.
	msg, err := c.nc.RequestWithContext(ctx, jetstream.DefaultAPIPrefix+"STREAM.INFO."+EventStream, nil)
	if err != nil {
		return Position{}, fmt.Errorf("position of stream %s: %w", EventStream, err)
	}
	var info struct {
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
		Created time.Time `json:"created"`
		State   struct {
			Messages uint64    `json:"messages"`
			First    uint64    `json:"first_seq"`
			Last     uint64    `json:"last_seq"`
			Oldest   time.Time `json:"first_ts"`
			Newest   time.Time `json:"last_ts"`
			Lost     *struct {
				Messages []uint64 `json:"msgs"`
			} `json:"lost"`
		} `json:"state"`
	}
	if err := json.Unmarshal(msg.Data, &info); err != nil {
		return Position{}, fmt.Errorf("position of stream %s: %w", EventStream, err)
	}
	if info.Error != nil {
		return Position{}, fmt.Errorf("position of stream %s: %s", EventStream, info.Error.Description)
	}
	p := Position{Created: info.Created, First: info.State.First, Last: info.State.Last, Newest: info.State.Newest}
	if info.State.Messages > 0 {
		p.Oldest = info.State.Oldest
	}
	if info.State.Lost != nil {
		p.Lost = len(info.State.Lost.Messages)
	}
	return p, nil
}
