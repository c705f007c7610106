package cli

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/alecthomas/kong"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	actions "github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/action"
)

// changesNothing are the commands that are no actions: they show something, run here
// alone, or are servers that record what is done through them. Every other command is
// recorded, so that a new one is unless it is named here.
func changesNothing() []string {
	return []string{
		"dev", "send", "load", "verify", "sim", "chaos", "connect", "console", "config show", "config check", "version", "completion", "healthcheck",
		"dead ls", "dead show", "cursor ls", "cursor show", "scan status", "gap ls", "gap show", "gap findings", "gap coverage", "deletions ls",
		"realm ls", "realm show", "token status", "budget", "doctor", "sink ls", "sink show", "actions ls", "actions verify",
	}
}

// record writes what a command did, or tried to do, to the trail. It says on stderr if it
// could not, and changes no outcome. A command that was used in a wrong way, or found its
// servers away, did nothing.
func (p process) record(ctx context.Context, cmd *kong.Context, environ []string, failed error) {
	what := strings.TrimPrefix(cmd.Selected().Path(), cmd.Model.Name+" ")
	if slices.Contains(changesNothing(), what) || lifecycle.ExitCode(failed) >= lifecycle.ExitUsage || setFlag(cmd, "dry-run") {
		return
	}
	if what == "audit" && !setFlag(cmd, "repair") {
		return
	}
	who, host := actions.System(environ)
	e := actions.Entry{Who: who, Role: operatorRole, Via: actions.CLI, From: host, What: what, On: arguments(cmd), Outcome: "done"}
	if failed != nil {
		e.Outcome = "failed: " + failed.Error()
	}
	log, err := p.logger()
	if err != nil {
		return
	}
	trail, done := p.trail(log, replaced(cmd, environ))
	defer done()
	trail.Record(ctx, e)
}

// trail is where actions are recorded, with the servers of the environment. Call done in
// the end.
func (p process) trail(log *zap.Logger, environ []string) (trail *actions.Trail, done func()) {
	servers := &trailServers{p: p, environ: environ}
	trail = actions.New(actions.Options{Stream: servers.stream, State: servers.state, Logger: log.Named("actions")})
	return trail, func() {
		trail.Close()
		servers.close()
	}
}

const operatorRole = "operator"

// setFlag reports whether a flag was given, and not as false.
func setFlag(cmd *kong.Context, name string) bool {
	for _, f := range cmd.Flags() {
		if f.Name == name {
			return f.Set && f.Target.IsValid() && !f.Target.IsZero()
		}
	}
	return false
}

// arguments are what a command was given, without addresses and secrets.
func arguments(cmd *kong.Context) string {
	var parts []string
	for _, v := range cmd.Selected().Positional {
		if text := shownValue(v.Target); text != "" {
			parts = append(parts, text)
		}
	}
	for _, f := range cmd.Flags() {
		if !f.Set || hiddenFlag(f.Name) {
			continue
		}
		if text := shownValue(f.Target); text != "" {
			parts = append(parts, "--"+f.Name+"="+text)
		}
	}
	text := strings.Join(parts, " ")
	if len(text) > maxArguments {
		text = text[:maxArguments] + "…"
	}
	return text
}

const maxArguments = 1000

func hiddenFlag(name string) bool {
	for _, part := range []string{"url", "token", "secret", "key", "password", "signature", "header", "json", "yes", "help"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

func shownValue(v reflect.Value) string {
	if !v.IsValid() || v.IsZero() {
		return ""
	}
	if m, ok := v.Interface().(moment); ok {
		return stamp(m.time())
	}
	text := strings.Trim(fmt.Sprint(v.Interface()), "[]")
	if strings.Contains(text, "://") {
		return ""
	}
	return text
}

// replaced is the environment with the addresses that were given by flags.
func replaced(cmd *kong.Context, environ []string) []string {
	for flag, name := range map[string]string{"nats-url": "LEDGERFEED_NATS_URL", "redis-url": "LEDGERFEED_REDIS_URL"} {
		for _, f := range cmd.Flags() {
			if f.Name == flag && f.Set {
				environ = append(without(environ, name), name+"="+f.Target.String())
			}
		}
	}
	return environ
}

// trailServers opens what a trail needs when it is needed.
type trailServers struct {
	p       process
	environ []string

	mu    sync.Mutex // guards what follows
	conn  *stream.Conn
	store *state.Store
}

func (t *trailServers) stream(ctx context.Context) (*stream.Conn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn != nil {
		return t.conn, nil
	}
	cfg := DefaultBrokerConfig()
	if err := config.Load(&cfg, "", t.environ); err != nil {
		return nil, err
	}
	conn, err := dial(ctx, t.p, cfg.NATS)
	if err == nil {
		t.conn = conn
	}
	return conn, err
}

func (t *trailServers) state(ctx context.Context) (*state.Store, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.store != nil {
		return t.store, nil
	}
	cfg := DefaultStateConfig()
	if err := config.Load(&cfg, "", t.environ); err != nil {
		return nil, err
	}
	log, err := t.p.logger()
	if err != nil {
		return nil, err
	}
	store, err := state.Open(ctx, state.Options{Config: cfg.Redis, Logger: log.Named("redis")})
	if err == nil {
		t.store = store
	}
	return store, err
}

func (t *trailServers) close() {
	if t.conn != nil {
		t.conn.Close()
	}
	if t.store != nil {
		_ = t.store.Close()
	}
}
