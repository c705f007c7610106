package connection_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestToken_OneRefreshAtATimeOverAllReplicas(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		replicas := []*connection.Store{b.replica(), b.replica(), b.replica()}
		b.connect(replicas[0])
		var wg sync.WaitGroup
		for w := range 50 {
			wg.Go(func() {
				s := replicas[w%3]
				for n := range 4 {
					token, err := s.Token(t.Context(), realm)
					if err != nil {
						t.Errorf("worker %d: %v", w, err)
						return
					}
					if (w+n)%4 > 0 {
						continue
					}
					if err := s.Rejected(t.Context(), realm, token); err != nil {
						t.Errorf("worker %d: %v", w, err)
					}
					if next, err := s.Token(t.Context(), realm); err != nil || next == token {
						t.Errorf("worker %d: same token %t, error %v", w, next == token, err)
					}
				}
			})
		}
		wg.Wait()
		refreshes, refused, atOnce := b.intuit.counts()
		require.Zero(t, refused)
		require.Equal(t, 1, atOnce)
		require.Greater(t, refreshes, 3)
		require.LessOrEqual(t, refreshes, 50)
		require.EqualValues(t, refreshes+1, b.get(replicas[1]).Generation)
	})
}

// Another replica may use a token, and have it refused, before the one that got it knows
// that it is stored.
func TestToken_RejectedBeforeItsRefreshHasEnded(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		s := b.replica()
		refused := b.connect(s).Access
		land := s.Landing(realm, refused)
		b.reject(s, refused)
		time.AfterFunc(50*time.Millisecond, land) // Token waits for it by then, if at all
		require.NotEqual(t, refused, b.token(s))
	})
}

func TestToken_RefreshedAheadOfItsEnd(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		b.setNow(noon)
		s := b.replica()
		first := b.connect(s)
		b.setNow(noon.Add(55*time.Minute - time.Second))
		require.Equal(t, first.Access, b.token(s))
		b.setNow(noon.Add(55 * time.Minute))
		second := b.token(s)
		require.NotEqual(t, first.Access, second)
		require.Equal(t, second, b.token(s))
		refreshes, _, _ := b.intuit.counts()
		require.Equal(t, 1, refreshes)
	})
}

func TestToken_ShortLivedOnesAreNotRefreshedByEachCall(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		b.setNow(noon)
		b.intuit.set(func() { b.intuit.lifetime = 20 * time.Second })
		s := b.replica()
		b.connect(s)
		for n := range 60 {
			b.setNow(noon.Add(time.Duration(n) * time.Second))
			b.token(s)
		}
		refreshes, _, _ := b.intuit.counts()
		require.Equal(t, 3, refreshes, "one each 15 seconds")
	})
}

// A token that is over as soon as it is issued must not be refreshed for ever.
func TestToken_ReturnsEvenIfTheNewOneIsOver(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		s := b.replica()
		token := b.intuit.authorize(noon)
		token.AccessExpires = time.Time{}
		require.NoError(t, s.Connect(t.Context(), realm, "books", token))
		b.setNow(noon)
		b.intuit.set(func() {
			b.intuit.lifetime = time.Second
			b.intuit.after = func(string) { b.setNow(noon.Add(time.Hour)) }
		})
		b.token(s)
		refreshes, _, _ := b.intuit.counts()
		require.Equal(t, 1, refreshes)
	})
}

func TestToken_OthersGoOnWithTheOldOneDuringARefresh(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		b.setNow(noon)
		s, other := b.replica(), b.replica()
		first := b.connect(s)
		asked, goOn := make(chan struct{}), make(chan struct{})
		b.intuit.set(func() {
			b.intuit.before = func(string) { close(asked); <-goOn }
		})
		b.setNow(noon.Add(57 * time.Minute))
		var wg sync.WaitGroup
		wg.Go(func() {
			if token, err := s.Token(t.Context(), realm); err != nil || token == first.Access {
				t.Errorf("old token %t, error %v", token == first.Access, err)
			}
		})
		<-asked
		require.Equal(t, first.Access, b.token(other), "it works for three more minutes")
		b.setNow(noon.Add(61 * time.Minute))
		_, err := other.Token(withTimeout(t, 200*time.Millisecond), realm)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = s.Token(withTimeout(t, 200*time.Millisecond), realm)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		close(goOn)
		wg.Wait()
	})
}

func TestToken_PassingErrorLeavesTheConnectionAlone(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		b.setNow(noon)
		s := b.replica()
		first := b.connect(s)
		before := b.get(s)
		b.intuit.set(func() { b.intuit.fail = 503 })

		b.setNow(noon.Add(58 * time.Minute))
		require.Equal(t, first.Access, b.token(s), "it still works")
		b.setNow(noon.Add(61 * time.Minute))
		err := b.tokenErr(s)
		require.True(t, qbo.Temporary(err), err)
		require.Equal(t, before, b.get(s))

		b.reject(s, first.Access)
		b.setNow(noon.Add(time.Minute))
		b.tokenErr(s)

		b.intuit.set(func() { b.intuit.fail = 0 })
		require.NotEqual(t, first.Access, b.token(s))
	})
}

// While Intuit is down, callers find out together, not one after the other.
func TestToken_CallersShareAFailure(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		s := b.replica()
		token := b.intuit.authorize(b.now())
		token.AccessExpires = time.Time{}
		require.NoError(t, s.Connect(t.Context(), realm, "books", token))
		goOn := make(chan struct{})
		asked := make(chan struct{}, 50)
		b.intuit.set(func() {
			b.intuit.fail = 500
			b.intuit.before = func(string) { asked <- struct{}{}; <-goOn }
		})
		var started, ended sync.WaitGroup
		started.Add(20)
		for range 20 {
			ended.Go(func() {
				started.Done()
				if _, err := s.Token(t.Context(), realm); err == nil {
					t.Error("want an error")
				}
			})
		}
		<-asked
		started.Wait()
		close(goOn)
		ended.Wait()
		require.Less(t, len(asked), 10)
	})
}

func TestToken_CallerThatGivesUpLosesNoToken(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		s, other := b.replica(), b.replica()
		first := b.connect(s)
		b.reject(s, first.Access)
		ctx, cancel := context.WithCancel(t.Context())
		b.intuit.set(func() { b.intuit.after = func(string) { cancel() } })
		s.Token(ctx, realm)
		require.EqualValues(t, 2, b.get(other).Generation, "stored before the call returned: the process may end after it")
		b.intuit.set(func() { b.intuit.after = nil })

		token, err := other.Token(withTimeout(t, 5*time.Second), realm)
		require.NoError(t, err)
		require.NotEqual(t, first.Access, token)
		refreshes, refused, _ := b.intuit.counts()
		require.Equal(t, 1, refreshes)
		require.Zero(t, refused)
	})
}

// A caller whose own time is up does not fail those who wait for its work.
func TestToken_WaitersOutliveTheOneTheyWaitFor(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		holder, s := b.replica(), b.replica()
		first := b.connect(s)
		b.reject(s, first.Access)
		asked, goOn := make(chan struct{}), make(chan struct{})
		b.intuit.set(func() { b.intuit.before = func(string) { close(asked); <-goOn } })
		var wg sync.WaitGroup
		wg.Go(func() { holder.Token(t.Context(), realm) })
		<-asked

		attempts := make(chan struct{}, 100)
		b.onLease(s, func() { attempts <- struct{}{} })
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if _, err := s.Token(ctx, realm); err == nil {
				t.Error("want an error")
			}
		})
		<-attempts
		wg.Go(func() {
			if _, err := s.Token(t.Context(), realm); err != nil {
				t.Error(err)
			}
		})
		for range 3 {
			<-attempts // the second caller has joined the first by now
		}
		cancel()
		close(goOn)
		wg.Wait()
	})
}

// A caller whose token was refused joins a refresh that read it just before.
func TestToken_NoSharedAnswerThatWasRefusedMeanwhile(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		s, other := b.replica(), b.replica()
		first := b.connect(s)
		b.reject(s, first.Access)
		var reads atomic.Int32
		var second, third secret.String
		var wg sync.WaitGroup
		joins := make(chan struct{})
		b.hook(s, func(cmd redis.Cmder, next func() error) error {
			if cmd.Name() != "hgetall" {
				return next()
			}
			switch reads.Add(1) {
			case 2: // the refresh reads, and finds somebody else's
				second = b.token(other)
				err := next()
				b.reject(other, second)
				wg.Go(func() { third = b.token(s) })
				<-joins
				for range 5 {
					b.get(other) // time enough to join
				}
				return err
			case 3: // who joins
				defer close(joins)
			}
			return next()
		})
		require.Equal(t, b.token(s), second)
		wg.Wait()
		require.NotEqual(t, second, third)
	})
}

// Between reading and taking the lease another replica may have been through.
func TestToken_ReadAgainUnderTheLease(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		s, other := b.replica(), b.replica()
		first := b.connect(s)
		b.reject(s, first.Access)
		var elses secret.String
		b.onLease(s, func() { elses = b.token(other) })
		require.Equal(t, b.token(s), elses)
		refreshes, refused, _ := b.intuit.counts()
		require.Equal(t, 1, refreshes)
		require.Zero(t, refused)
	})
}

// A person connects the realm anew while a replica is about to give it up.
func TestToken_ParksOnlyWhatWasRefused(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		s, other := b.replica(), b.replica()
		first := b.connect(s)
		b.reject(s, first.Access)
		second := b.token(s)
		b.reject(s, second)
		var again qbo.Token
		b.intuit.set(func() {
			b.intuit.valid = "revoked"
			b.intuit.before = func(token string) {
				if token != first.Refresh.Reveal() {
					return // the one before it is tried next
				}
				again = b.intuit.authorize(b.now())
				if err := other.Connect(t.Context(), realm, "books", again); err != nil {
					t.Error(err)
				}
			}
		})
		require.Equal(t, b.token(s), again.Access)
		require.Equal(t, connection.Live, b.get(s).State)
	})
}

func TestRejected_OnlyTheTokenThatIsStored(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		s, other := b.replica(), b.replica()
		first := b.connect(s)
		b.reject(s, first.Access)
		second := b.token(other)
		require.NotEqual(t, first.Access, second)
		b.reject(s, first.Access)
		b.reject(s, "some other")
		b.reject(s, "")
		require.Equal(t, second, b.token(s))
		require.ErrorIs(t, s.Rejected(t.Context(), "1", second), connection.ErrNotConnected)
	})
}

func TestToken_InvalidGrantTriesThePreviousOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		s := b.replica()
		first := b.connect(s)
		b.reject(s, first.Access)
		second := b.token(s)
		// What was stored last never became valid.
		b.intuit.set(func() { b.intuit.valid = first.Refresh.Reveal() })
		b.reject(s, second)
		third := b.token(s)
		require.NotEqual(t, second, third)
		require.Equal(t, connection.Live, b.get(s).State)
		b.reject(s, third)
		b.token(s)
		refreshes, refused, _ := b.intuit.counts()
		require.Equal(t, 3, refreshes)
		require.Equal(t, 1, refused)
	})
}

func TestToken_InvalidGrantParksTheRealm(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		b.setNow(noon)
		s, other := b.replica(), b.replica()
		first := b.connect(s)
		b.reject(s, first.Access)
		second := b.token(s)
		b.intuit.set(func() { b.intuit.valid = "revoked" })
		b.reject(s, second)

		b.setNow(noon.Add(time.Minute))
		require.ErrorIs(t, b.tokenErr(s), connection.ErrReauthRequired)
		_, refused, _ := b.intuit.counts()
		require.Equal(t, 2, refused, "this one and the one before")
		require.ErrorContains(t, b.tokenErr(other), "invalid_grant")
		_, refused, _ = b.intuit.counts()
		require.Equal(t, 2, refused, "nobody asks any more")
		c := b.get(other)
		require.Equal(t, connection.ReauthRequired, c.State)
		require.Contains(t, c.Reason, "invalid_grant")
		require.Equal(t, noon, c.ConnectedAt)
		require.Equal(t, noon.Add(time.Minute), c.ChangedAt)
		require.Equal(t, noon.Add(time.Minute), c.LapsedAt)
		known, err := s.Known(t.Context(), realm)
		require.NoError(t, err)
		require.Equal(t, connection.ReauthRequired, known)
		require.Len(t, b.logs.FilterMessage("refresh token refused, realm needs reauthorisation").All(), 1)

		b.setNow(noon.Add(time.Hour))
		again := b.connect(s)
		require.Equal(t, again.Access, b.token(other))
		c = b.get(other)
		require.Equal(t, connection.Live, c.State)
		require.Empty(t, c.Reason)
		require.Equal(t, noon, c.ConnectedAt)
		require.Equal(t, noon.Add(time.Minute), c.LapsedAt)
		require.Equal(t, noon.Add(time.Hour), c.ChangedAt)

		b.intuit.set(func() { b.intuit.valid = "revoked again" })
		b.reject(s, again.Access)
		require.ErrorIs(t, b.tokenErr(s), connection.ErrReauthRequired)
		_, refused, _ = b.intuit.counts()
		require.Equal(t, 3, refused, "there is none before it")
	})
}

// A replica that was stopped for longer than its lease finds its token used; it
// must not park the realm that another one keeps alive.
func TestToken_InvalidGrantAfterSomebodyElsesRefreshIsNone(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		s, other := b.replica(), b.replica()
		first := b.connect(s)
		b.reject(s, first.Access)
		second := b.token(s) // so that there is one before it
		b.reject(s, second)
		var stopped atomic.Bool
		var elses secret.String
		b.intuit.set(func() {
			b.intuit.before = func(string) {
				if !stopped.CompareAndSwap(false, true) {
					return
				}
				b.dropLease()
				var err error
				if elses, err = other.Token(t.Context(), realm); err != nil {
					t.Error(err)
				}
			}
		})
		require.Equal(t, b.token(s), elses)
		refreshes, refused, _ := b.intuit.counts()
		require.Equal(t, 2, refreshes)
		require.Equal(t, 1, refused)
		require.Equal(t, connection.Live, b.get(s).State)
	})
}

func TestToken_WithoutAConnection(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		s := b.replica()
		require.ErrorIs(t, b.tokenErr(s), connection.ErrNotConnected)
		b.connect(s)
		require.NoError(t, s.Disconnect(t.Context(), realm))
		require.ErrorIs(t, b.tokenErr(s), connection.ErrNotConnected)
		require.ErrorContains(t, b.tokenErr(s), "disconnected")
	})
}

func TestDisconnect_WinsOverARefreshUnderWay(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		s, other := b.replica(), b.replica()
		first := b.connect(s)
		b.reject(s, first.Access)
		b.intuit.set(func() {
			b.intuit.after = func(string) {
				if err := other.Disconnect(t.Context(), realm); err != nil {
					t.Error(err)
				}
			}
		})
		require.ErrorIs(t, b.tokenErr(s), connection.ErrNotConnected)
		c := b.get(s)
		require.Equal(t, connection.Disconnected, c.State)
		require.Empty(t, c.Token)
		require.NotContains(t, b.dump(), "token:")
	})
}

func TestConnect_WinsOverARefreshUnderWay(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		s, other := b.replica(), b.replica()
		first := b.connect(s)
		b.reject(s, first.Access)
		var second qbo.Token
		b.intuit.set(func() {
			b.intuit.after = func(string) {
				second = b.intuit.authorize(b.now())
				if err := other.Connect(t.Context(), realm, "books", second); err != nil {
					t.Error(err)
				}
			}
		})
		require.Equal(t, b.token(s), second.Access)
	})
}
