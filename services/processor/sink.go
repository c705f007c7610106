package processor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/plainhttp"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/jsonl"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/nats"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/webhook"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// Sink is where changes go. Write may be called from several goroutines at
// once, but within one process never for one entity by two of them.
type Sink interface {
	// Name is the sink's name in the marks and in the retry queue. It stands for
	// the place written to: another place is another sink.
	Name() string
	// Write stores changes, at most one of an entity in a call. nil means that
	// all of them will survive a crash. An error that is stream.Permanent says
	// that at least one of them will never be taken; any other is tried again. A
	// *sink.PartialError says it of each change.
	// A change that is older than the one held must not replace it. One of the same
	// version must if its source is a replay: a person asked for it, because what is
	// held is wrong.
	Write(ctx context.Context, changes []*ledgerfeedv1.Change) error
	// Close is called by whoever opened the sink, not by the processor.
	Close() error
}

// sinkSpec is one entry of ProcessorConfig.Sinks.
type sinkSpec struct {
	name, kind string
	place      secret.String // a URL may hold a password
}

const (
	kindJSONL    = "jsonl"
	kindPostgres = "postgres"
	kindWebhook  = "webhook"
	kindNATS     = "nats"
)

// What ProcessorConfig.PostgresTables may be.
const (
	tablesOne       = "one"
	tablesPerEntity = "per_entity"
)

func parseSinks(entries []string) ([]sinkSpec, error) {
	var specs []sinkSpec
	var errs []error
	for i, entry := range entries {
		spec, err := parseSink(entry)
		if err != nil {
			errs = append(errs, fmt.Errorf("processor.sinks, entry %d: %w", i+1, err))
			continue
		}
		if slices.ContainsFunc(specs, func(s sinkSpec) bool { return s.name == spec.name }) {
			errs = append(errs, fmt.Errorf("processor.sinks, entry %d: duplicate sink name %q: put NAME= before one of them", i+1, spec.name))
		}
		specs = append(specs, spec)
	}
	return specs, errors.Join(errs...)
}

// parseSink reads [NAME=]jsonl:PATH, [NAME=]postgres:URL, [NAME=]webhook:URL or
// [NAME=]nats. The entry is not in
// the error: it may hold a password.
func parseSink(entry string) (sinkSpec, error) {
	kind, place, ok := strings.Cut(strings.TrimSpace(entry), ":")
	name, named, hasName := strings.Cut(kind, "=")
	if hasName {
		kind = named
	} else {
		name = kind
	}
	if kind == "postgresql" {
		kind = kindPostgres
	}
	switch {
	case kind == kindNATS && place == "" && name != "":
	case !ok || place == "" || name == "" || kind != kindJSONL && kind != kindPostgres && kind != kindWebhook:
		return sinkSpec{}, errors.New("want [NAME=]jsonl:PATH, [NAME=]postgres:URL, [NAME=]webhook:URL or [NAME=]nats")
	case kind == kindPostgres && strings.HasPrefix(place, "//"):
		place = "postgres:" + place // postgres://… was meant as the URL
	}
	return sinkSpec{name: name, kind: kind, place: secret.String(place)}, nil
}

// OpenSinks opens the sinks of a configuration; broker is for those that publish, log hears
// of what fails beside the writes. On an error those that were open already are closed again.
func OpenSinks(ctx context.Context, c ProcessorConfig, broker *stream.Conn, log *zap.Logger) ([]Sink, error) {
	specs, err := parseSinks(c.Sinks)
	if err != nil {
		return nil, err
	}
	var sinks []Sink
	for _, spec := range specs {
		s, err := spec.open(ctx, c, broker, log)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open sink %s: %w", spec.name, err), closeSinks(sinks))
		}
		sinks = append(sinks, s)
	}
	return sinks, nil
}

func (s sinkSpec) open(ctx context.Context, c ProcessorConfig, broker *stream.Conn, log *zap.Logger) (Sink, error) {
	switch s.kind {
	case kindNATS:
		return nats.Open(ctx, nats.Options{Name: s.name, Stream: broker})
	case kindPostgres:
		return postgres.Open(ctx, s.postgres(c, log))
	case kindWebhook:
		return c.openWebhook(s)
	default:
		return jsonl.Open(jsonl.Options{
			Name: s.name, Path: s.place.Reveal(),
			MaxBytes: c.JSONLMaxBytes, MaxAge: c.JSONLMaxAge, Keep: c.JSONLKeep, Logger: log,
		})
	}
}

// checkPlain refuses a webhook sink that would send documents without TLS.
func (s sinkSpec) checkPlain(hosts []string) error {
	if s.kind != kindWebhook {
		return nil
	}
	u, err := url.Parse(s.place.Reveal())
	if err != nil {
		return nil //nolint:nilerr // its Open reports it
	}
	if err := plainhttp.Check(u, hosts, "processor.webhook_http_hosts"); err != nil {
		return fmt.Errorf("processor.sinks, sink %s: %w", s.name, err)
	}
	return nil
}

func (c ProcessorConfig) openWebhook(s sinkSpec) (*webhook.Sink, error) {
	if err := s.checkPlain(c.WebhookHTTPHosts); err != nil {
		return nil, err
	}
	secrets, err := parseSecrets(c.WebhookSecrets)
	if err != nil {
		return nil, err
	}
	allow, err := parsePrefixes(c.WebhookAllow)
	if err != nil {
		return nil, err
	}
	headers, err := parseHeaders(c.WebhookHeaders)
	if err != nil {
		return nil, err
	}
	return webhook.Open(webhook.Options{
		Proxy: c.WebhookProxy, CAFile: c.WebhookCAFile, ClientCertFile: c.WebhookClientCertFile, ClientKeyFile: c.WebhookClientKeyFile,
		Headers: headers[s.name],
		Name:    s.name, URL: s.place.Reveal(), Secrets: secrets[s.name], Batch: c.WebhookBatch,
		Concurrency: c.WebhookConcurrency, Rate: c.WebhookRate, Timeout: c.WriteTimeout, Allow: allow,
	})
}

// parseSecrets reads NAME=SECRET[,SECRET…][;NAME=…]: the secrets of each webhook
// sink. Errors count instead of quoting: what is not where it belongs may be one.
func parseSecrets(s secret.String) (map[string][]secret.String, error) {
	secrets := map[string][]secret.String{}
	n := 0
	for _, text := range strings.FieldsFunc(s.Reveal(), func(r rune) bool { return r == ';' || r == '\n' || r == '\r' }) {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		n++
		name, list, ok := strings.Cut(text, "=")
		if !ok {
			return nil, fmt.Errorf("processor.webhook_secrets: sink %d has no '=': write NAME=whsec_…", n)
		}
		for one := range strings.SplitSeq(list, ",") {
			if one = strings.TrimSpace(one); one != "" {
				secrets[strings.TrimSpace(name)] = append(secrets[strings.TrimSpace(name)], secret.String(one))
			}
		}
	}
	return secrets, nil
}

// parseHeaders reads lines NAME=Header: value: the headers of each webhook sink. Errors
// count instead of quoting: a value may be a secret.
func parseHeaders(s secret.String) (map[string]http.Header, error) {
	headers := map[string]http.Header{}
	n := 0
	for line := range strings.Lines(s.Reveal()) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		n++
		name, field, ok := strings.Cut(line, "=")
		header, value, is := strings.Cut(field, ":")
		if !ok || !is || strings.TrimSpace(header) == "" {
			return nil, fmt.Errorf("processor.webhook_headers: line %d: write NAME=Header: value", n)
		}
		name = strings.TrimSpace(name)
		if headers[name] == nil {
			headers[name] = http.Header{}
		}
		headers[name].Add(strings.TrimSpace(header), strings.TrimSpace(value))
	}
	return headers, nil
}

func parsePrefixes(cidrs []string) (prefixes []netip.Prefix, err error) {
	for _, text := range cidrs {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("processor.webhook_allow %s: give networks such as 10.0.0.0/8", text)
		}
		prefixes = append(prefixes, p)
	}
	return prefixes, nil
}

func closeSinks(sinks []Sink) error {
	var errs []error
	for _, s := range sinks {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

func (s sinkSpec) postgres(c ProcessorConfig, log *zap.Logger) postgres.Options {
	return postgres.Options{
		Name: s.name, URL: s.place, PerEntity: c.PostgresTables == tablesPerEntity, Verify: c.PostgresSetup == string(stream.SetupVerify),
		NoLog: !c.PostgresLog, KeepLog: c.PostgresLogKeep, KeepGaps: c.PostgresGapsKeep, Logger: log,
	}
}
