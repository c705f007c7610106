package qbosim_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// Each of the 42 entities has a record that Query and a read show under one key.
func TestSim_HoldsRecordsOfAllEntities(t *testing.T) {
	b := setup(t)
	made, err := b.Populate(realm)
	require.NoError(t, err)
	require.Len(t, made, 42)
	again, err := b.Populate(realm)
	require.NoError(t, err)
	require.Empty(t, again)
	client := b.client(t)
	for _, ref := range made {
		result, err := client.Query(t.Context(), realm, "SELECT * FROM "+ref.Entity+" WHERE "+qbo.WithIDs(ref.Entity, []string{ref.ID}))
		require.NoError(t, err, ref.Entity)
		require.Empty(t, result.NoID)
		require.Len(t, result.Entities, 1, ref.Entity)
		require.Equal(t, [2]string{ref.Entity, ref.ID}, [2]string{result.Entities[0].Name, result.Entities[0].ID})
		require.JSONEq(t, string(b.Truth(realm)[ref].Raw), string(result.Entities[0].Raw))
	}
	for _, name := range []string{"ExchangeRate", "RecurringTransaction", "CreditCardPayment", "CompanyInfo"} {
		for _, ref := range made {
			if ref.Entity == name {
				e, _, err := client.Read(t.Context(), realm, name, ref.ID)
				require.NoError(t, err, name)
				require.Equal(t, ref.ID, e.ID)
				require.NoError(t, b.Update(ref, nil))
			}
		}
	}
	require.Len(t, entity.Queryable(), 42)
}

// An answer holds three custom fields, and all of them where it was asked for them.
func TestSim_ShowsAllCustomFieldsWhenAsked(t *testing.T) {
	for _, tt := range []struct {
		cdc  qbosim.CDCFields
		want int
	}{{"", 3}, {qbosim.CDCFieldsCut, 3}, {qbosim.CDCFieldsAll, 12}, {qbosim.CDCFieldsRefused, 3}} {
		t.Run(string(tt.cdc), func(t *testing.T) {
			b := setup(t, func(o *qbosim.Options) { o.CustomFields, o.CDCFields = 12, tt.cdc })
			ref, err := b.Create(realm, "Invoice", nil)
			require.NoError(t, err)
			client := b.client(t)
			result, err := client.Query(t.Context(), realm, "SELECT * FROM Invoice")
			require.NoError(t, err)
			require.Equal(t, 12, customFields(t, result.Entities[0].Raw))
			e, _, err := client.Read(t.Context(), realm, "Invoice", ref.ID)
			require.NoError(t, err)
			require.Equal(t, 12, customFields(t, e.Raw))
			cdc, err := client.CDC(t.Context(), realm, []string{"Invoice"}, e.LastUpdated.Add(-time.Hour))
			require.NoError(t, err)
			require.Equal(t, tt.want, customFields(t, cdc.Entities["Invoice"][0].Raw))
		})
	}
}

type fixedToken string

func (f fixedToken) Token(context.Context, string) (secret.String, error) {
	return secret.String(f), nil
}

func (f fixedToken) Rejected(context.Context, string, secret.String) error { return nil }

// client is a client of package qbo.
func (b *bundle) client(t *testing.T) *qbo.Client {
	t.Helper()
	client, err := qbo.New(qbo.Options{BaseURL: b.server.URL, HTTP: b.server.Client(), Tokens: fixedToken(b.token)})
	require.NoError(t, err)
	return client
}

func customFields(t *testing.T, raw []byte) int {
	t.Helper()
	var record struct{ CustomField []any }
	require.NoError(t, json.Unmarshal(raw, &record))
	return len(record.CustomField)
}
