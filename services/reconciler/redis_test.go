package reconciler_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// Scans find what is missing, and move the cursors, with a cluster and with a user who has
// the rights that are documented and no more.
func TestRedis_EveryKind(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) state.Config{
		"cluster": func(t *testing.T) state.Config {
			return state.Config{URL: secret.String(devtest.RedisCluster(t)), Cluster: true}
		},
		"least rights": limitedUser,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupOn(t, start(t))
			b.create("Invoice")
			b.create("Customer")
			b.clock.Advance(time.Hour)
			require.Equal(t, 2, b.reconcile(b.reconciler()).MissingQuery)
			stop := run(t, b.reconciler())
			b.create("Invoice")
			b.clock.Advance(48 * time.Hour)
			b.rest()
			stop()
			require.NoError(t, b.reconciler().Heal(t.Context()))
			outage := state.Outage{Kind: state.OutageIngress, From: b.clock.Now().Add(-time.Hour), To: b.clock.Now()}
			require.NoError(t, b.store.AddOutage(t.Context(), outage))
			require.NoError(t, b.reconciler().DueAfterOutage(t.Context()))
			b.requireHonest()
		})
	}
}

// limitedUser is a Redis with a user who has the rights that are documented.
func limitedUser(t *testing.T) state.Config {
	t.Helper()
	url := devtest.RealRedis(t)
	o, err := redis.ParseURL(url)
	require.NoError(t, err)
	admin := redis.NewClient(o)
	defer admin.Close()
	rule := []any{"ACL", "SETUSER", "ledgerfeed", "on", ">secret"}
	for part := range strings.FieldsSeq(state.ACLRule) {
		rule = append(rule, part)
	}
	require.NoError(t, admin.Do(t.Context(), rule...).Err())
	return state.Config{URL: secret.String(strings.Replace(url, "redis://", "redis://ledgerfeed:secret@", 1))}
}
