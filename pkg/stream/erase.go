package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
)

// EraseRealm deletes the messages of a realm from the streams and returns how many, by
// stream; with changes from the NATS sink's too. With dryRun it only counts. Dead letters of
// bodies that nobody could read go if they name the realm, whatever else is in them. A copy
// that a consumer has in hand is not deleted; when it is acknowledged, nothing is.
func (c *Conn) EraseRealm(ctx context.Context, realm string, changes, dryRun bool) (map[string]uint64, error) {
	token := envelope.RealmToken(realm)
	subjects := []struct{ stream, subject string }{
		{EventStream, "lf.event.*." + token}, {RetryStream, "lf.retry.*.*." + token}, {DeadStream, "lf.dead.*." + token}, {GapStream, "lf.gap." + token},
	}
	if changes {
		subjects = append(subjects, struct{ stream, subject string }{ChangeStream, "lf.change." + token + ".>"})
	}
	found := map[string]uint64{}
	for _, s := range subjects {
		n, err := c.eraseSubject(ctx, s.stream, s.subject, dryRun)
		if err != nil {
			return found, fmt.Errorf("erase realm %s from stream %s: %w", realm, s.stream, err)
		}
		found[s.stream] += n
	}
	n, err := c.eraseNaming(ctx, realm, dryRun)
	found[DeadStream] += n
	if err != nil {
		return found, fmt.Errorf("erase dead letters that name realm %s: %w", realm, err)
	}
	c.deadQuota.forget()
	return found, nil
}

func (c *Conn) eraseSubject(ctx context.Context, name, subject string, dryRun bool) (n uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, err := c.js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(subject))
	if err != nil {
		return 0, err
	}
	for _, count := range info.State.Subjects {
		n += count
	}
	if n == 0 || dryRun {
		return n, nil
	}
	return n, s.Purge(ctx, jetstream.WithPurgeSubject(subject))
}

// eraseNaming deletes dead letters of no realm, or of another, whose bytes name the realm.
func (c *Conn) eraseNaming(ctx context.Context, realm string, dryRun bool) (n uint64, err error) {
	var letters []uint64
	name := []byte(`"` + realm + `"`)
	err = c.EachDead(ctx, DeadFilter{}, func(d DeadLetter) error {
		if d.RealmID != realm && (bytes.Contains(d.Body, name) || d.Envelope.GetRealmId() == realm) {
			letters = append(letters, d.Seq)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, seq := range letters {
		if dryRun {
			continue
		}
		if err := c.DeleteDead(ctx, seq); err != nil {
			return n, err
		}
	}
	return uint64(len(letters)), nil
}
