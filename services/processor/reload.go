package processor

import (
	"net/http"
	"slices"

	"github.com/ledgerfeed/ledgerfeed/pkg/reload"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/webhook"
)

// takeSecrets gives open sinks, those of the configuration opened, the passwords and
// secrets of another configuration. Other places need a restart.
func takeSecrets(sinks []Sink, opened, c ProcessorConfig) error {
	specs, err := parseSinks(c.Sinks)
	if err != nil {
		return err
	}
	before, err := parseSinks(opened.Sinks)
	if err != nil {
		return err
	}
	if !slices.EqualFunc(before, specs, sinkSpec.samePlace) {
		return &reload.RestartError{Keys: []string{"processor.sinks"}}
	}
	secrets, err := parseSecrets(c.WebhookSecrets)
	if err != nil {
		return err
	}
	headers, err := parseHeaders(c.WebhookHeaders)
	if err != nil {
		return err
	}
	return giveSecrets(sinks, specs, secrets, headers)
}

// samePlace reports whether two entries differ in user and password at most.
func (s sinkSpec) samePlace(other sinkSpec) bool {
	if s.name != other.name || s.kind != other.kind {
		return false
	}
	return s.place == other.place || s.kind == kindPostgres && postgres.SamePlace(s.place, other.place)
}

func giveSecrets(sinks []Sink, specs []sinkSpec, secrets map[string][]secret.String, headers map[string]http.Header) error {
	for _, s := range sinks {
		if hook, ok := s.(*webhook.Sink); ok { // first, since they may refuse
			if err := hook.SetSecrets(secrets[s.Name()], headers[s.Name()]); err != nil {
				return err
			}
		}
	}
	for i, s := range sinks {
		if database, ok := s.(*postgres.Sink); ok {
			database.SetURL(specs[i].place)
		}
	}
	return nil
}
