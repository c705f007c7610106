package dev

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

const (
	clientID     = "ledgerfeed-dev"
	clientSecret = "ledgerfeed-dev-secret"
	redirectURL  = "http://127.0.0.1/callback"

	// retryScale turns Intuit's first retry after 10 s into one after 100 ms.
	retryScale = 0.01
	// customFields is how many a record has: more than an answer shows by itself.
	customFields = 12
)

// simulator is a simulated QuickBooks behind its own HTTP server.
type simulator struct {
	*qbosim.Sim
	url    string
	server *http.Server
	ended  chan error
}

// startSimulator opens the books that the data directory keeps and serves
// them. No webhook goes out before SetWebhookURL and Run.
func startSimulator(ctx context.Context, o Options, data *dataDir, log *zap.Logger) (*simulator, error) {
	sim, err := qbosim.New(qbosim.Options{
		Seed:          o.Seed,
		Journal:       data.file("quickbooks.journal"),
		VerifierToken: o.VerifierToken,
		Format:        o.Format,
		RetryScale:    retryScale,
		ClientID:      clientID,
		ClientSecret:  clientSecret,
		AskConsent:    true, // any redirect URL: ledgerfeed connect may listen anywhere
		CustomFields:  customFields,
		Unselected:    o.Unselected,
		Faults:        o.faults(),
		Logger:        log.Named("quickbooks"),
	})
	if err != nil {
		return nil, fmt.Errorf("open the simulated records: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.SimListen)
	if err != nil {
		return nil, errors.Join(cannotListen("sim-listen", o.SimListen, err), sim.Close())
	}
	s := &simulator{
		Sim:    sim,
		url:    "http://" + listener.Addr().String(),
		server: &http.Server{Handler: sim.Handler(), ReadHeaderTimeout: 10 * time.Second},
		ended:  make(chan error, 1),
	}
	go func() { s.ended <- s.server.Serve(listener) }()
	return s, nil
}

// Shutdown stops the API and closes the books. It does not wait for requests:
// http.Server.Shutdown waits five seconds for a connection that no request came
// on, such as a client keeps in reserve, and whoever calls has stopped already.
func (s *simulator) Shutdown(context.Context) error {
	err := s.server.Close()
	if served := <-s.ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return errors.Join(err, s.Close())
}

// endLag makes every later answer show all that was written before it.
func (s *simulator) endLag() {
	f := s.Faults()
	f.ReplicaLag = 0
	s.SetFaults(f)
}

// found makes the realms that are not there yet, with a few records that are
// older than the connection: the feed has to load them by Query.
func (s *simulator) found(realms []string) (founded map[string]bool, err error) {
	founded = map[string]bool{}
	for _, realm := range realms {
		s.AddRealm(realm)
		if len(s.Truth(realm)) > 0 {
			continue
		}
		founded[realm] = true
		if err := s.fill(realm); err != nil {
			return nil, fmt.Errorf("create the simulated records of realm %s: %w", realm, err)
		}
	}
	return founded, nil
}

func (s *simulator) fill(realm string) error {
	for _, name := range []string{"Ada's Orchard", "Birch & Sons", "Café Åland"} {
		if _, err := s.Create(realm, "Customer", map[string]any{"DisplayName": name}); err != nil {
			return err
		}
	}
	for _, name := range []string{"Harbour Print", "Northern Timber"} {
		if _, err := s.Create(realm, "Vendor", map[string]any{"DisplayName": name}); err != nil {
			return err
		}
	}
	for _, name := range []string{"Apples", "Crate", "Delivery", "Pruning"} {
		if _, err := s.Create(realm, "Item", map[string]any{"Name": name}); err != nil {
			return err
		}
	}
	if s.Faults().Derived > 0 {
		if _, err := s.Create(realm, "Account", map[string]any{"Name": "Checking"}); err != nil {
			return err
		}
	}
	for _, name := range []string{"Invoice", "Invoice", "Bill", "TimeActivity"} {
		if _, err := s.Create(realm, name, nil); err != nil {
			return err
		}
	}
	_, err := s.Populate(realm)
	return err
}

// cannotListen names the flag: the usual cause is a port in use.
func cannotListen(flag, address string, err error) error {
	var op *net.OpError
	if !errors.As(err, &op) {
		return fmt.Errorf("--%s %s: %w", flag, address, err)
	}
	return lifecycle.Usage(fmt.Errorf("--%s %s: %w; give another port, or 0 for any free one", flag, address, op.Err))
}
