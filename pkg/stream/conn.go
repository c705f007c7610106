package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// Options are what the program passes to Connect.
type Options struct {
	Config Config
	// Name is shown in the server's list of connections.
	Name       string
	Logger     *zap.Logger           // nil logs nothing
	Registerer prometheus.Registerer // nil counts nothing
}

// Conn is a connection to the broker. It reconnects by itself for as long as it
// is open and is safe for concurrent use.
type Conn struct {
	cfg      Config
	login    atomic.Pointer[Config] // what new connections log in with
	nkey     nkeys.KeyPair          // nil where the server knows users otherwise
	log      *zap.Logger
	nc       *nats.Conn
	js       jetstream.JetStream
	inFlight *semaphore.Weighted // bytes of unacknowledged publishes
	name     string
	metrics  *metrics
	outbox   *outbox
	group    *group
	// What one reason or sink may have of the streams that share them.
	deadQuota, retryQuota *quota
	asking                sync.WaitGroup // of the quotas
	// maxPayload is the largest message the server takes; the client's own answer
	// waits for its lock.
	maxPayload atomic.Int64
	closing    atomic.Bool
	batches    atomic.Bool // the event stream takes atomic batches, and they save syncs

	mu        sync.Mutex           // guards what follows
	consumers map[string]consuming // in use, by durable
	denials   map[AccessError]time.Time
	unset     map[string]error // consumers that `ledgerfeed setup` has not made, by durable
}

const (
	connectTimeout = 5 * time.Second
	requestTimeout = 5 * time.Second
	readyTimeout   = 2 * time.Second
	// writeTimeout ends a connection whose peer takes no bytes, so that no
	// publish hangs in the socket for longer.
	writeTimeout = 10 * time.Second

	maxInFlight = 64 << 20
	// minWeight bounds what is in flight in messages too: 4096.
	minWeight = 16 << 10
)

// Connect dials a server, once. It does not create streams: see EnsureTopology.
// Close the connection in the end.
func Connect(ctx context.Context, o Options) (*Conn, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c := &Conn{cfg: o.Config, log: o.Logger, inFlight: semaphore.NewWeighted(maxInFlight), name: o.Name, deadQuota: deadQuota(), retryQuota: retryQuota(), consumers: map[string]consuming{}, denials: map[AccessError]time.Time{}, unset: map[string]error{}}
	if c.log == nil {
		c.log = zap.NewNop()
	}
	c.login.Store(&c.cfg)
	var err error
	if c.nkey, err = o.Config.nkey(); err != nil {
		return nil, err
	}
	c.group = &group{conn: c}
	c.metrics = newMetrics()
	nc, err := c.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w at %s: %w", ErrUnreachable, c.Address(), err)
	}
	if err := c.metrics.register(o.Registerer); err != nil { // after the dial: it may be tried again
		nc.Close()
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	c.nc = nc
	c.maxPayload.Store(nc.MaxPayload())
	c.outbox = newOutbox()
	c.js, err = jetstream.New(nc, append(c.outbox.handlers(),
		jetstream.WithDefaultTimeout(requestTimeout),
		// Our own bound on what is in flight is the tighter one.
		jetstream.WithPublishAsyncMaxPending(2*maxInFlight/minWeight),
		// Frees a message whose caller has given up waiting for it.
		jetstream.WithPublishAsyncTimeout(2*o.Config.PublishTimeout),
	)...)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("use JetStream at %s: %w", c.Address(), err)
	}
	c.outbox.start(c.js)
	return c, nil
}

// dial connects, and ends with ctx: the client itself waits for each of its servers
// to answer, which a program that is asked to end must not.
func (c *Conn) dial(ctx context.Context) (*nats.Conn, error) {
	type dialed struct {
		nc  *nats.Conn
		err error
	}
	done := make(chan dialed, 1)
	go func() {
		nc, err := nats.Connect(c.cfg.URL, c.options(ctx)...)
		done <- dialed{nc, err}
	}()
	select {
	case d := <-done:
		return d.nc, d.err
	case <-ctx.Done():
		go func() {
			if d := <-done; d.nc != nil {
				d.nc.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

func (c *Conn) options(ctx context.Context) []nats.Option {
	timeout := connectTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, max(time.Until(deadline), time.Millisecond))
	}
	opts := []nats.Option{
		nats.Name(c.name),
		nats.Timeout(timeout),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, 250*time.Millisecond),
		// No buffer while disconnected: what is written there is published
		// later, after its caller was told that it failed.
		nats.ReconnectBufSize(-1),
		// A connection that is dead without having been closed is found within
		// three of these.
		nats.PingInterval(3 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.FlusherTimeout(writeTimeout),
		// A server that refuses the credentials twice may have them renewed.
		nats.IgnoreAuthErrorAbort(),
		nats.NoCallbacksAfterClientClose(),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			c.group.disconnected()
			c.log.Warn("broker disconnected", telemetry.Address(c.Address()), telemetry.Error(err))
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			c.maxPayload.Store(nc.MaxPayload())
			c.mu.Lock()
			clear(c.denials) // the user may have other permissions now
			c.mu.Unlock()
			c.log.Info("broker reconnected", telemetry.Address(nc.ConnectedUrlRedacted()))
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if !c.denied(err) {
				c.log.Warn("broker reported an error", telemetry.Error(err))
			}
		}),
	}
	if inbox := inboxOf(c.name); inbox != "" {
		opts = append(opts, nats.CustomInboxPrefix(inbox))
	}
	switch {
	case c.cfg.CredentialsFile != "":
		opts = append(opts, nats.UserCredentials(c.cfg.CredentialsFile)) // read for each connection
	case c.nkey != nil:
		opts = append(opts, c.nkeyOption())
	default:
		opts = append(opts, nats.UserInfoHandler(c.userInfo), nats.TokenHandler(c.token))
	}
	if c.cfg.CAFile != "" {
		opts = append(opts, nats.RootCAs(c.cfg.CAFile))
	}
	return opts
}

func (c *Conn) userInfo() (user, password string) {
	l := c.login.Load()
	return l.User, l.Password.Reveal()
}

func (c *Conn) token() string { return c.login.Load().Token.Reveal() }

// SetLogin makes the next connection log in as cfg says, by user and password or by token;
// the present one stays.
func (c *Conn) SetLogin(cfg Config) { c.login.Store(&cfg) }

// Address is the configured address, for messages to people. Validate keeps
// passwords out of it.
func (c *Conn) Address() string { return strings.TrimSpace(c.cfg.URL) }

// Profile is the configured durability profile.
func (c *Conn) Profile() Profile { return c.cfg.Profile }

// MaxBody is the largest DeadLetter.Body the server takes.
func (c *Conn) MaxBody() int { return max(int(c.maxPayload.Load())-headerReserve, 0) }

// MaxPayload is the largest message the server takes, headers included.
func (c *Conn) MaxPayload() int { return int(c.maxPayload.Load()) }

// Ready returns nil if the broker answers for the event stream. A stream that
// is gone is created again: without it nothing could be accepted any more. With
// SetupVerify it is not, and the error is ErrNotSetUp, also for a consumer that is
// missing. It takes two seconds at most.
func (c *Conn) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if status := c.nc.Status(); status != nats.CONNECTED {
		return fmt.Errorf("%w at %s: %s", ErrUnreachable, c.Address(), strings.ToLower(status.String()))
	}
	if err := c.checkServer(); err != nil {
		return err // it may be another one since the start
	}
	if c.accessError() != nil {
		// What can be tried again may be allowed by now.
		if err := errors.Join(c.RequireAccess(ctx), c.accessError()); err != nil {
			return err
		}
	}
	if err := c.unsetError(); err != nil {
		return err
	}
	_, err := c.js.Stream(ctx, EventStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) && c.cfg.Setup == SetupVerify {
		return c.verifyTopology(ctx)
	}
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		c.log.Warn("stream missing; creating it again", telemetry.Stream(EventStream))
		return c.EnsureTopology(ctx)
	}
	if err != nil {
		return fmt.Errorf("look up stream %s: %w", EventStream, c.deniedSubject(infoSubject(EventStream), err))
	}
	return nil
}

func infoSubject(name string) string { return "$JS.API.STREAM.INFO." + name }

// Close closes the connection. Consume calls that still run return ErrClosed.
// Closing twice is safe.
func (c *Conn) Close() {
	if c.closing.Swap(true) {
		return
	}
	c.nc.Close()
	c.group.close()
	c.outbox.close()
	c.deadQuota.stop()
	c.retryQuota.stop()
	c.asking.Wait()
}
