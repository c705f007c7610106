package stream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// Access is what the NATS user of a service must be allowed to do.
type Access struct{ Publish, Subscribe []string }

// AccessOf is what each service needs, and no more, where the services make the streams
// and consumers.
func AccessOf(service string) (a Access, known bool) {
	a = Access{
		// The service that starts first creates the streams; each compares them, and
		// reads what shares the room of the dead letters.
		Publish:   []string{"$JS.API.STREAM.INFO.*", "$JS.API.STREAM.CREATE.*", "$JS.API.STREAM.UPDATE.*", "$JS.API.STREAM.MSG.GET.*"},
		Subscribe: []string{inboxOf(service) + ".>"},
	}
	consumers := []string{"$JS.API.CONSUMER.CREATE.>", "$JS.API.CONSUMER.INFO.*.*", "$JS.API.CONSUMER.MSG.NEXT.*.*", "$JS.API.CONSUMER.DELETE.*.*", "$JS.ACK.>"}
	switch service {
	case "ingress":
		a.Publish = append(a.Publish, "lf.event.>", "lf.dead.>", "lf.retry.>", "lf.beat.ingress")
	case "processor":
		a.Publish = append(a.Publish, consumers...)
		a.Publish = append(a.Publish, "$JS.API.CONSUMER.LIST.*", "lf.retry.>", "lf.dead.>", "lf.gap.>", changesPattern)
	case "reconciler":
		a.Publish = append(a.Publish, consumers...)
		a.Publish = append(a.Publish, "$JS.API.CONSUMER.LIST.*", "lf.event.>", "lf.dead.>", "lf.gap.>")
		a.Subscribe = append(a.Subscribe, "lf.beat.>")
	default:
		return Access{}, false
	}
	return a, true
}

// LeastAccessOf is what each service needs with SetupVerify: no right to create, change or
// delete a stream, and none on the streams of another's work. "console" is also the user of
// the commands, and "setup" that of `ledgerfeed setup`.
func LeastAccessOf(service string) (a Access, known bool) {
	// Each compares the streams, and reads how full they are. What shares the room of the dead
	// letters and retries is sampled.
	a.Publish = on("STREAM.INFO.%s", streams...)
	a.Subscribe = []string{inboxOf(service) + ".>"}
	sampled := on("STREAM.MSG.GET.%s", DeadStream, RetryStream)
	switch service {
	case "ingress":
		a.publish(sampled, "lf.event.>", "lf.dead.>", waitingPattern, "lf.beat.ingress")
	case "processor":
		queues := []string{EventStream, RetryStream, GapStream}
		a.publish(sampled, "lf.retry.>", "lf.dead.>", "lf.gap.>", changesPattern)
		a.publish(on("CONSUMER.LIST.%s", EventStream, RetryStream))
		a.publish(on("CONSUMER.INFO.%s.*", queues...))
		a.publish(on("CONSUMER.MSG.NEXT.%s.*", queues...))
		for _, q := range queues {
			a.publish(nil, "$JS.ACK."+q+".>")
		}
	case "reconciler":
		a.publish(on("STREAM.MSG.GET.%s", DeadStream), "lf.event.>", "lf.dead.>", "lf.gap.>")
		a.publish(on("CONSUMER.LIST.%s", EventStream))
		a.reads(HeartbeatStream)
		a.Subscribe = append(a.Subscribe, beatSubject+"ingress")
	case "console":
		a.publish(on("STREAM.MSG.%s", "GET."+DeadStream, "DELETE."+DeadStream, "GET."+ActionStream), "lf.event.>", actionSubject)
		a.publish(on("CONSUMER.LIST.%s", EventStream, RetryStream))
		a.publish(on("CONSUMER.INFO.%s.*", EventStream, RetryStream, GapStream))
		a.reads(DeadStream)
		a.reads(ActionStream)
		a.Subscribe = append(a.Subscribe, inboxOf("ledgerfeed")+".>", inboxOf("ledgerfeed-doctor")+".>")
	case "setup":
		made := append(slices.Clone(streams), HeartbeatStream, ActionStream)
		a.Publish = nil
		a.publish(on("STREAM.INFO.%s", made...))
		a.publish(on("STREAM.CREATE.%s", made...))
		a.publish(on("STREAM.UPDATE.%s", made...))
		for _, q := range []string{EventStream, RetryStream, GapStream} {
			a.publish(on("CONSUMER.CREATE.%s.>", q))
			a.publish(on("CONSUMER.INFO.%s.*", q))
		}
		a.publish(nil, "$JS.API.CONSUMER.DELETE."+EventStream+".processor")
		// It records that it ran, as each command does.
		a.publish(on("STREAM.MSG.GET.%s", ActionStream), actionSubject)
		a.Subscribe = append(a.Subscribe, inboxOf("ledgerfeed")+".>")
	default:
		return Access{}, false
	}
	return a, true
}

// waitingPattern is of what waits for room, or to be read.
const waitingPattern = "lf.retry._.>"

// on is a question of the JetStream API about each of these.
func on(question string, names ...string) (subjects []string) {
	for _, name := range names {
		subjects = append(subjects, jetstream.DefaultAPIPrefix+fmt.Sprintf(question, name))
	}
	return subjects
}

func (a *Access) publish(subjects []string, more ...string) {
	a.Publish = append(append(a.Publish, subjects...), more...)
}

// reads is what it takes to read a stream by a consumer that lasts as long as the reading.
func (a *Access) reads(stream string) {
	a.publish(on("STREAM.INFO.%s", stream))
	a.publish(on("CONSUMER.CREATE.%s.>", stream))
	a.publish(on("CONSUMER.INFO.%s.*", stream))
	a.publish(on("CONSUMER.MSG.NEXT.%s.*", stream))
	a.publish(on("CONSUMER.DELETE.%s.*", stream))
	slices.Sort(a.Publish)
	a.Publish = slices.Compact(a.Publish)
}

// access is what this connection needs.
func (c *Conn) access() Access {
	of := AccessOf
	if c.cfg.Setup == SetupVerify {
		of = LeastAccessOf
	}
	a, _ := of(c.name)
	return a
}

// AccessError says that the broker denies a service a subject that it needs.
type AccessError struct {
	Service string // as the connection is called
	// Subscribe: it may not subscribe to the subject; otherwise it may not publish to it.
	Subscribe bool
	Subject   string
}

func (e *AccessError) Error() string {
	what := "publish to"
	if e.Subscribe {
		what = "subscribe to"
	}
	return fmt.Sprintf("the NATS user of the %s may not %s %q: allow it (docs/deployment.md, NATS permissions, lists what each service needs)", e.Service, what, e.Subject)
}

const changesPattern = "lf.change.>"

// deniedFor is how long a denial counts that no check can look at again: what is denied
// is tried again sooner.
const deniedFor = 2 * time.Minute

var deniedText = regexp.MustCompile(`(?i)permissions violation for (publish|subscription) to "(\S+)"`)

// denied notes a permissions violation that the server reported, and returns false for
// another error. Each is logged once.
func (c *Conn) denied(err error) bool {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return false
	}
	found := deniedText.FindStringSubmatch(err.Error())
	if found == nil {
		return false
	}
	denial := AccessError{Service: c.name, Subscribe: strings.EqualFold(found[1], "subscription"), Subject: c.general(found[2])}
	c.mu.Lock()
	_, known := c.denials[denial]
	c.denials[denial] = time.Now()
	c.mu.Unlock()
	if !known {
		c.log.Error("broker denies a subject", zap.String("subject", denial.Subject), telemetry.Error(&denial))
	}
	return true
}

// general is the pattern of what the service needs that a subject belongs to, so that few
// are noted.
func (c *Conn) general(subject string) string {
	a := c.access()
	for _, pattern := range append(a.Publish, a.Subscribe...) {
		if covers(pattern, subject) {
			return pattern
		}
	}
	return subject
}

// covers reports whether a subject, or a pattern, is within a pattern.
func covers(pattern, subject string) bool {
	tokens := strings.Split(subject, ".")
	for i, p := range strings.Split(pattern, ".") {
		switch {
		case p == ">":
			return len(tokens) > i
		case i >= len(tokens), p != "*" && p != tokens[i]:
			return false
		}
	}
	return len(tokens) == strings.Count(pattern, ".")+1
}

// accessError is one of the denials of late, or nil.
func (c *Conn) accessError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []AccessError
	for d, at := range c.denials {
		if time.Since(at) < deniedFor {
			all = append(all, d)
		} else {
			delete(c.denials, d)
		}
	}
	if len(all) == 0 {
		return nil
	}
	slices.SortFunc(all, func(a, b AccessError) int { return strings.Compare(a.Subject, b.Subject) })
	return &all[0]
}

// deniedSubject returns err, with the denial in it if there is one for the subject that
// got no answer.
func (c *Conn) deniedSubject(subject string, err error) error {
	denial := AccessError{Service: c.name, Subject: c.general(subject)}
	c.mu.Lock()
	at, ok := c.denials[denial]
	c.mu.Unlock()
	if !ok || time.Since(at) >= deniedFor {
		return err
	}
	return fmt.Errorf("%w: %w", &denial, err)
}

// RequireAccess returns an *AccessError if the broker denies the service, by whose name
// the connection goes, a subject that it publishes to. Nothing is stored. What a service
// uses all the time, such as its consumers, shows by itself: see [Conn.Ready].
func (c *Conn) RequireAccess(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for _, pattern := range c.access().Publish {
		if !strings.HasPrefix(pattern, "lf.") || !strings.HasSuffix(pattern, ".>") || pattern == changesPattern {
			continue // of the changes only the NATS sink knows
		}
		if err := c.probe(ctx, pattern); err != nil {
			return err
		}
	}
	return nil
}

// probe publishes to a subject of the pattern what no stream takes, for it names another
// one. The server answers a denial before the ping that follows.
func (c *Conn) probe(ctx context.Context, pattern string) error {
	subject := strings.TrimSuffix(pattern, ">") + "00.probe-" + rand.Text()
	if pattern == "lf.retry.>" {
		subject = strings.TrimSuffix(pattern, ">") + "_.00.probe-" + rand.Text()
	}
	m := nats.NewMsg(subject)
	m.Header.Set(jetstream.ExpectedStreamHeader, "LF_PROBE")
	if err := c.nc.PublishMsg(m); err != nil {
		return fmt.Errorf("%w at %s: %w", ErrUnreachable, c.Address(), err)
	}
	if err := c.nc.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("%w at %s: %w", ErrUnreachable, c.Address(), err)
	}
	denial := AccessError{Service: c.name, Subject: pattern}
	if last := c.nc.LastError(); last != nil && strings.Contains(last.Error(), subject) {
		c.denied(last)
		return &denial
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.denials, denial)
	return nil
}
