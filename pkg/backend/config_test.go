package backend_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/backend"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

func TestConfig_TheDemoKeyIsNotForRealCompanies(t *testing.T) {
	const key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	for _, tt := range []struct {
		name, base, id string
		refused        bool
	}{
		{"demo", "http://quickbooks:8090", "demo", false},
		{"production", qbo.ProductionURL, "demo", true},
		{"sandbox", qbo.SandboxURL, "demo", true},
		{"production, another id", qbo.ProductionURL, "k1", true},
		{"demo, another id", "http://quickbooks:8090", "k1", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := backend.DefaultConfig()
			cfg.QBO.HTTPHosts = []string{"quickbooks"}
			cfg.QBO.BaseURL, cfg.QBO.ClientID, cfg.QBO.ClientSecret = tt.base, "id", "secret"
			cfg.Connection.Keys = []secret.String{secret.String(tt.id + ":" + key)}
			err := cfg.Validate()
			if !tt.refused {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, "connection.keys")
			require.NotContains(t, err.Error(), key)
		})
	}
}

func TestConfig_AnotherKeyIsForRealCompanies(t *testing.T) {
	cfg := backend.DefaultConfig()
	cfg.QBO.ClientID, cfg.QBO.ClientSecret = "id", "secret"
	cfg.Connection.Keys = []secret.String{"k1:AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}
	require.NoError(t, cfg.Validate())
}
