package connection_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// app is a token endpoint for many realms that can refuse in all its ways, and an
// Accounting API beside it.
type app struct {
	*bundle
	calls   atomic.Int64 // of the token endpoint
	refuse  atomic.Pointer[refusal]
	api     atomic.Int64
	apiCode atomic.Int64
}

type refusal struct {
	status int
	body   string
}

// wrongClient is recorded: intuit/QuickBooks-V3-PHP-SDK#240.
var wrongClient = &refusal{http.StatusBadRequest, `[{"error_description":"Incorrect Token type or clientID","error":"invalid_grant"}]`}

var incident = &refusal{http.StatusBadRequest, `{"error":"invalid_grant","error_description":"Token invalid"}`}

func startApp(b *bundle) *app {
	a := &app{bundle: b}
	server := httptest.NewServer(a)
	b.t.Cleanup(server.Close)
	b.intuit.url = server.URL
	return a
}

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("intuit_tid", "1-tid")
	if r.URL.Path != "/" {
		a.api.Add(1)
		w.WriteHeader(int(a.apiCode.Load()))
		fmt.Fprint(w, `{"Fault":{"Error":[{"Message":"message=AuthenticationFailed; errorCode=100; statusCode=401","code":"100","Detail":"SRV-110-Authentication Failure"}],"type":"AUTHENTICATION"}}`)
		return
	}
	n := a.calls.Add(1)
	if refuse := a.refuse.Load(); refuse != nil {
		w.WriteHeader(refuse.status)
		fmt.Fprint(w, refuse.body)
		return
	}
	fmt.Fprintf(w, `{"access_token":"at-secret-app-%d-","refresh_token":%q,"expires_in":3600,"x_refresh_token_expires_in":8640000}`, n, r.FormValue("refresh_token"))
}

// connectAll connects n realms whose access tokens are over.
func (a *app) connectAll(s *connection.Store, n int) (realms []string) {
	a.t.Helper()
	for i := range n {
		id := fmt.Sprint(9341453000 + i)
		a.lapsing(s, id)
		realms = append(realms, id)
	}
	return realms
}

func (a *app) lapsing(s *connection.Store, id string) {
	a.t.Helper()
	token := a.intuit.authorize(a.now())
	token.AccessExpires = a.now().Add(-time.Minute)
	require.NoError(a.t, s.Connect(a.t.Context(), id, "books", token))
}

// withoutClient makes the stored tokens those of a version that noted no client id.
func (a *app) withoutClient(realms []string) {
	a.t.Helper()
	old := a.replicaOf("")
	for _, id := range realms {
		a.lapsing(old, id)
	}
}

// replicaOf is a replica with keys of that client id; "" notes none.
func (a *app) replicaOf(client string) *connection.Store {
	a.t.Helper()
	st, err := state.Open(a.t.Context(), state.Options{Config: state.Config{URL: secret.String(a.redisURL)}, Timeout: time.Second, Now: a.now})
	require.NoError(a.t, err)
	a.t.Cleanup(func() { st.Close() })
	var refresher connection.Refresher = nameless{}
	if client != "" {
		refresher, err = qbo.NewOAuth(qbo.OAuthOptions{ClientID: client, ClientSecret: "app-secret-", TokenURL: a.intuit.url, Now: a.now})
		require.NoError(a.t, err)
	}
	s, err := connection.New(connection.Options{State: st, Config: connection.Config{Keys: []secret.String{key("k1")}}, Refresher: refresher, Now: a.now})
	require.NoError(a.t, err)
	return s
}

type nameless struct{}

func (nameless) Refresh(context.Context, secret.String) (qbo.Token, error) {
	return qbo.Token{}, errors.New("no refresher")
}

func (a *app) sleep(d time.Duration) { a.setNow(a.now().Add(d)) }

// Thirty seconds of wrong keys: every realm is live again within a minute of the right
// ones, and nobody does anything. The tokens are those of an earlier version, which did
// not note whose they are.
func TestRefusal_WrongKeysParkNoRealm(t *testing.T) {
	for name, answers := range map[string]*refusal{
		"clientID": wrongClient, "incident": incident,
		"invalid_client": {http.StatusUnauthorized, `{"error":"invalid_client"}`},
	} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, func(t *testing.T, b *bundle) {
				b.setNow(noon)
				a := startApp(b)
				a.withoutClient([]string{"1", "2", "3", "4", "5"})
				realms := []string{"1", "2", "3", "4", "5"}
				s, other := a.replicaOf("app"), a.replicaOf("app")
				a.refuse.Store(answers)
				for range 6 {
					for i, id := range realms {
						replica := s
						if i%2 > 0 {
							replica = other
						}
						_, err := replica.Token(t.Context(), id)
						require.Error(t, err)
						b.see(err)
					}
					require.NoError(t, s.RetryDue(t.Context()))
					a.sleep(5 * time.Second)
				}
				require.LessOrEqual(t, a.calls.Load(), int64(6), "one realm tries for all")
				a.refuse.Store(nil)
				at := a.now()
				for _, replica := range []*connection.Store{s, other} {
					for a.now().Sub(at) < 40*time.Second {
						require.NoError(t, replica.RetryDue(t.Context()))
						for _, id := range realms {
							_, _ = replica.Token(t.Context(), id) // what a scan or an event asks for
						}
						a.sleep(10 * time.Second)
					}
				}
				for _, id := range realms {
					token, err := other.Token(t.Context(), id)
					require.NoError(t, err)
					require.NotEmpty(t, token)
					c, err := s.Get(t.Context(), id)
					require.NoError(t, err)
					require.Equal(t, connection.Live, c.State)
					require.Nil(t, c.Refusal)
					require.Equal(t, "app", c.ClientID)
				}
			})
		})
	}
}

// A token that belongs to another client id is not even presented, and works again with
// the right one at once.
func TestRefusal_OtherClientIsRefusedLocally(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		b.setNow(noon)
		a := startApp(b)
		right, wrong := a.replicaOf("production"), a.replicaOf("development")
		realms := a.connectAll(right, 3)
		for _, id := range realms {
			_, err := wrong.Token(t.Context(), id)
			require.ErrorIs(t, err, connection.ErrOtherClient)
			require.ErrorContains(t, err, "issued to production and qbo.client_id is development")
			delay, ok := connection.RetryAfter(err)
			require.True(t, ok)
			require.LessOrEqual(t, delay, 30*time.Second)
			require.ErrorIs(t, wrong.Refresh(t.Context(), id), connection.ErrOtherClient)
		}
		require.Zero(t, a.calls.Load())
		for _, id := range realms {
			_, err := right.Token(t.Context(), id)
			require.NoError(t, err)
		}
		// As long as the access token works it is of use to anybody.
		_, err := wrong.Token(t.Context(), realms[0])
		require.NoError(t, err)
	})
}

// With other keys a refused token is tried at once.
func TestRefusal_AnotherClientIDIsTriedAtOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		b.setNow(noon)
		a := startApp(b)
		a.withoutClient([]string{"1"})
		a.refuse.Store(incident)
		_, err := a.replicaOf("development").Token(t.Context(), "1")
		require.ErrorIs(t, err, connection.ErrReauthRequired)
		a.refuse.Store(nil)
		a.sleep(time.Minute)
		right := a.replicaOf("production")
		require.NoError(t, right.RetryDue(t.Context()))
		require.EqualValues(t, 1, a.calls.Load(), "due in an hour")

		ctx, cancel := context.WithCancel(t.Context())
		watched := make(chan error, 1)
		go func() { watched <- right.Watch(ctx) }()
		require.Eventually(t, func() bool {
			// Watch looks at its start when what is due; the next look is RetryDue.
			_ = right.RetryDue(ctx)
			state, err := right.Known(ctx, "1")
			return err == nil && state == connection.Live
		}, 10*time.Second, 10*time.Millisecond)
		cancel()
		require.NoError(t, <-watched)
	})
}

// invalid_grant for one realm alone: parked with Intuit's words, tried after 1 h, 6 h and
// each day by one replica, and live and due when Intuit takes the token again.
func TestRefusal_IsTriedAgainAndEnds(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		b.setNow(noon)
		a := startApp(b)
		s, other := a.replicaOf("app"), a.replicaOf("app")
		a.lapsing(s, realm)
		a.refuse.Store(incident)
		_, err := s.Token(t.Context(), realm)
		require.ErrorIs(t, err, connection.ErrReauthRequired)
		require.ErrorContains(t, err, "Token invalid")
		c := b.get(other)
		require.Equal(t, connection.ReauthRequired, c.State)
		require.Equal(t, "Intuit refused the refresh token (invalid_grant): Token invalid, intuit_tid 1-tid", c.Reason)
		require.Equal(t, "1-tid", c.Refusal.TID)
		require.Equal(t, noon.Add(time.Hour), c.Refusal.Next.UTC())
		require.NotEmpty(t, c.Token.Refresh, "it is kept")

		calls := int64(1)
		for i, wait := range []time.Duration{time.Hour, 6 * time.Hour, 24 * time.Hour, 24 * time.Hour} {
			a.sleep(wait - time.Second)
			for _, replica := range []*connection.Store{s, other} {
				require.NoError(t, replica.RetryDue(t.Context()))
			}
			require.Equal(t, calls, a.calls.Load(), "try %d is not due", i)
			a.sleep(time.Second)
			for _, replica := range []*connection.Store{s, other} {
				require.NoError(t, replica.RetryDue(t.Context()))
			}
			calls++
			require.Equal(t, calls, a.calls.Load(), "one replica tries")
			require.Equal(t, noon, b.get(s).ChangedAt)
		}
		require.Equal(t, 5, b.get(s).Refusal.Count)
		a.sleep(24 * time.Hour)
		a.refuse.Store(nil)
		require.NoError(t, a.replicaOf("app").RetryDue(t.Context()), "also after a restart")
		c = b.get(s)
		require.Equal(t, connection.Live, c.State)
		require.Empty(t, c.Reason)
		require.Nil(t, c.Refusal)
		at, err := a.stateStore().Due(t.Context(), realm)
		require.NoError(t, err)
		require.False(t, at.IsZero(), "due for a scan")
	})
}

// Any other refusal of the token endpoint is retried with growing delays, over all replicas;
// a person can try at once, and the realm stays live.
func TestRefusal_OtherAnswersOfTheTokenEndpointAreRetriedLater(t *testing.T) {
	for name, answer := range map[string]*refusal{
		"invalid_request": {http.StatusBadRequest, `{"error":"invalid_request"}`}, // intuit/QuickBooks-V3-DotNET-SDK#342
		"empty":           {http.StatusBadRequest, ``},                            // intuit/oauth-jsclient#198
		"page":            {http.StatusForbidden, `<html>denied</html>`},
		"throttled":       {http.StatusTooManyRequests, ``}, // intuit/QuickBooks-V3-PHP-SDK#111
	} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, func(t *testing.T, b *bundle) {
				b.setNow(noon)
				a := startApp(b)
				replicas := []*connection.Store{a.replicaOf("app"), a.replicaOf("app")}
				a.lapsing(replicas[0], realm)
				a.refuse.Store(answer)
				try := func(until time.Duration) {
					for a.now().Sub(noon) < until {
						for _, replica := range replicas {
							_, err := replica.Token(t.Context(), realm)
							require.Error(t, err)
							b.see(err)
							_, waits := connection.RetryAfter(err)
							require.True(t, waits, err)
						}
						a.sleep(10 * time.Second)
					}
				}
				try(time.Minute)
				require.EqualValues(t, 1, a.calls.Load())
				try(10 * time.Minute)
				require.EqualValues(t, 4, a.calls.Load(), "after 0, 1, 3 and 7 minutes")
				try(3 * time.Hour)
				require.EqualValues(t, 10, a.calls.Load(), "half an hour apart at most")

				c := b.get(replicas[1])
				require.Equal(t, connection.Live, c.State)
				require.Equal(t, 10, c.RefreshRefusal.Count)
				require.Equal(t, "1-tid", c.RefreshRefusal.TID)
				require.Contains(t, c.RefreshRefusal.Message, fmt.Sprint(answer.status))

				require.Error(t, replicas[0].Refresh(t.Context(), realm))
				require.EqualValues(t, 11, a.calls.Load(), "a person does not wait")
				a.refuse.Store(nil)
				a.sleep(30 * time.Minute)
				_, err := a.replicaOf("app").Token(t.Context(), realm)
				require.NoError(t, err, "also after a restart")
				require.Nil(t, b.get(replicas[0]).RefreshRefusal)
			})
		})
	}
}

func (a *app) stateStore() *state.Store {
	a.t.Helper()
	st, err := state.Open(a.t.Context(), state.Options{Config: state.Config{URL: secret.String(a.redisURL)}})
	require.NoError(a.t, err)
	a.t.Cleanup(func() { st.Close() })
	return st
}

// A person can try it at once; a parked realm stays parked, whatever Intuit says.
func TestRefusal_APersonTriesAgain(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		b.setNow(noon)
		a := startApp(b)
		s := a.replicaOf("app")
		a.lapsing(s, realm)
		a.refuse.Store(incident)
		_, err := s.Token(t.Context(), realm)
		require.ErrorIs(t, err, connection.ErrReauthRequired)
		require.ErrorIs(t, s.Refresh(t.Context(), realm), connection.ErrReauthRequired)
		require.EqualValues(t, 2, a.calls.Load())
		a.refuse.Store(nil)
		require.NoError(t, s.Refresh(t.Context(), realm))
		require.Equal(t, connection.Live, b.get(s).State)

		require.NoError(t, s.SetState(t.Context(), realm, connection.Parked, "unpaid"))
		a.refuse.Store(incident)
		require.ErrorIs(t, s.Refresh(t.Context(), realm), connection.ErrReauthRequired)
		c := b.get(s)
		require.Equal(t, connection.Parked, c.State)
		require.Equal(t, "unpaid", c.Reason)
		require.NotNil(t, c.Refusal)
		a.sleep(100 * 24 * time.Hour)
		calls := a.calls.Load()
		require.NoError(t, s.RetryDue(t.Context()))
		require.Equal(t, calls, a.calls.Load(), "nobody refreshes what a person has parked")
	})
}

// What earlier versions parked is tried, too.
func TestRefusal_OfAnEarlierVersion(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		b.setNow(noon)
		a := startApp(b)
		s := a.replicaOf("app")
		a.lapsing(s, realm)
		a.lapsing(s, "2")
		require.NoError(t, s.SetState(t.Context(), realm, connection.ReauthRequired, "Intuit refused the refresh token (invalid_grant)"))
		require.NoError(t, s.SetState(t.Context(), "2", connection.ReauthRequired, "its token was revoked by request"))
		a.sleep(2 * time.Hour)
		require.NoError(t, s.RetryDue(t.Context()))
		require.Equal(t, connection.Live, b.get(s).State)
		require.EqualValues(t, 1, a.calls.Load(), "a revoked token is left alone")
	})
}

// One event under a permanent 401, in two replicas that never tire.
func TestRejected_TwoRefreshesInTenMinutes(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		b.setNow(noon)
		a := startApp(b)
		a.apiCode.Store(http.StatusUnauthorized)
		s, other := a.replicaOf("app"), a.replicaOf("app")
		b.connect(s)
		var clients []*qbo.Client
		for _, source := range []*connection.Store{s, other} {
			c, err := qbo.New(qbo.Options{BaseURL: a.intuit.url, Tokens: source})
			require.NoError(t, err)
			clients = append(clients, c)
		}
		in := func(d time.Duration) (refreshes, calls int64) {
			refreshes, calls = a.calls.Load(), a.api.Load()
			for end := a.now().Add(d); a.now().Before(end); a.sleep(5 * time.Second) {
				for _, c := range clients {
					_, err := c.Query(t.Context(), realm, "SELECT * FROM Invoice")
					require.Error(t, err)
					if delay, held := connection.RetryAfter(err); held {
						require.LessOrEqual(t, delay, 30*time.Minute)
					}
				}
			}
			return a.calls.Load() - refreshes, a.api.Load() - calls
		}
		refreshes, calls := in(10 * time.Minute)
		require.LessOrEqual(t, refreshes, int64(2))
		require.LessOrEqual(t, calls, int64(12), "of which half ask whether the token is refused")
		refreshes, calls = in(6 * time.Hour)
		require.LessOrEqual(t, refreshes, int64(20))
		require.LessOrEqual(t, calls, int64(60), "the delays grow")
		require.Equal(t, connection.Live, b.get(s).State)

		// The API is well again: what waited goes on within the longest delay.
		a.sleep(30 * time.Minute)
		_, err := s.Token(t.Context(), realm)
		require.NoError(t, err)
		// A person need not wait, and a new consent is a new start.
		b.reject(s, b.get(s).Token.Access)
		b.reject(s, b.token(s))
		_, held := connection.RetryAfter(b.tokenErr(other))
		require.True(t, held)
		require.NoError(t, s.Refresh(t.Context(), realm))
		b.token(other)
		b.reject(s, b.token(s))
		b.connect(s)
		b.token(other)
	})
}

// The token before the stored one is presented once, whatever comes of it.
func TestRefusal_PreviousIsPresentedOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		b.setNow(noon)
		s := b.replica()
		first := b.connect(s)
		b.reject(s, first.Access)
		b.reject(s, b.token(s))
		b.intuit.set(func() { b.intuit.valid = "revoked" })
		presented := 0
		b.intuit.set(func() {
			b.intuit.before = func(token string) {
				if token == first.Refresh.Reveal() {
					presented++
				}
			}
		})
		require.ErrorIs(t, b.tokenErr(s), connection.ErrReauthRequired)
		for range 3 {
			require.ErrorIs(t, s.Refresh(t.Context(), realm), connection.ErrReauthRequired)
		}
		b.intuit.set(func() { require.Equal(t, 1, presented) })
	})
}

// A check shows whether Intuit still takes the token; anybody may ask, once an hour.
func TestCheckSoon_RefreshesOnceAnHour(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		b.setNow(noon)
		a := startApp(b)
		s := a.replicaOf("app")
		b.connect(s)
		require.NoError(t, s.CheckSoon(t.Context(), "404"))
		require.NotContains(t, b.dump(), "404")
		for range 3 {
			require.NoError(t, s.CheckSoon(t.Context(), realm))
			require.NoError(t, s.RetryDue(t.Context()))
		}
		require.EqualValues(t, 1, a.calls.Load())
		require.Equal(t, connection.Live, b.get(s).State)
		require.NoError(t, s.SetState(t.Context(), realm, connection.Parked, "unpaid"))
		b.dropLease()
		require.NoError(t, s.CheckSoon(t.Context(), realm))
		require.NoError(t, s.SetState(t.Context(), realm, connection.Live, ""))
		require.NoError(t, s.RetryDue(t.Context()))
		require.EqualValues(t, 1, a.calls.Load())
		// The owner has disconnected.
		a.refuse.Store(incident)
		c := b.get(s)
		require.NotNil(t, c)
		require.Eventually(t, func() bool { state, err := s.Known(t.Context(), realm); return err == nil && state == connection.Live }, 5*time.Second, 50*time.Millisecond)
		require.NoError(t, s.CheckSoon(t.Context(), realm))
		require.NoError(t, s.RetryDue(t.Context()))
		require.Equal(t, connection.ReauthRequired, b.get(s).State)
	})
}

func TestRefresh_KeepsTheHundredDays(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		b.setNow(noon)
		a := startApp(b)
		s := a.replicaOf("app")
		a.lapsing(s, realm)
		a.refuse.Store(&refusal{http.StatusOK, `{"access_token":"at-secret-x-","refresh_token":"rt-secret-x-","expires_in":3600}`})
		_, err := s.Token(t.Context(), realm)
		require.NoError(t, err)
		require.Equal(t, noon.AddDate(0, 0, 100), b.get(s).Token.RefreshExpires)
		_, total, err := s.Deadlines(t.Context(), connection.RefreshDeadline, noon.AddDate(0, 0, 101), 1)
		require.NoError(t, err)
		require.Equal(t, 1, total)
	})
}

// Webhooks that are under way when a company is disconnected raise no alert; later ones do.
func TestNoteLate_CountsWhatShowsAnActiveGrant(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		b.setNow(noon)
		registry := prometheus.NewRegistry()
		st, err := state.Open(t.Context(), state.Options{Config: state.Config{URL: secret.String(b.redisURL)}})
		require.NoError(t, err)
		t.Cleanup(func() { st.Close() })
		s, err := connection.New(connection.Options{State: st, Config: connection.Config{Keys: []secret.String{key("k1")}}, Refresher: nameless{}, Registerer: registry, Now: b.now})
		require.NoError(t, err)
		counted := func() (n float64) {
			families, err := registry.Gather()
			require.NoError(t, err)
			for _, f := range families {
				if f.GetName() == "ledgerfeed_disconnected_events_total" {
					return f.GetMetric()[0].GetCounter().GetValue()
				}
			}
			require.Fail(t, "no such metric")
			return 0
		}
		b.connect(s)
		require.NoError(t, s.NoteLate(t.Context(), realm, 3))
		require.NoError(t, s.Disconnect(t.Context(), realm))
		b.setNow(noon.Add(30 * time.Minute))
		require.NoError(t, s.NoteLate(t.Context(), realm, 3))
		require.Zero(t, counted())
		b.setNow(noon.Add(61 * time.Minute))
		require.NoError(t, s.NoteLate(t.Context(), realm, 2))
		require.EqualValues(t, 2, counted())
	})
}

func TestNoteLate_CountsForDisconnectedRealmsOnly(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		b.setNow(noon)
		s := b.replica()
		b.connect(s)
		require.NoError(t, s.NoteLate(t.Context(), realm, 3))
		require.NoError(t, s.NoteLate(t.Context(), "404", 3))
		require.Empty(t, b.get(s).Late)
		require.NoError(t, s.Disconnect(t.Context(), realm))
		require.NoError(t, s.NoteLate(t.Context(), realm, 3))
		require.False(t, b.get(s).GrantActive(), "they were under way")
		b.setNow(noon.Add(2 * time.Hour))
		require.NoError(t, s.NoteLate(t.Context(), realm, 2))
		c := b.get(s)
		require.Equal(t, connection.Late{Events: 5, First: noon, Last: noon.Add(2 * time.Hour)}, c.Late)
		require.True(t, c.GrantActive())
		b.connect(s)
		require.Empty(t, b.get(s).Late)
	})
}
