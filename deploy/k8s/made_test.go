package k8s_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/secrets"
)

// What make-secrets prints is what the overlay refers to, filled in: each secret and key of
// its list but for the certificate of the endpoint, which a public authority gives.
func TestMakeSecrets_FillsInTheListOfEachOverlay(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, secrets.Make(secrets.Options{Dir: dir, IngressApps: "demo=token", ClientSecret: "secret"}))
	for _, name := range overlays(t) {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("bash", "./make-secrets", dir, name)
			cmd.Env = append(os.Environ(), "CLIENT_ID=id")
			out, err := cmd.Output()
			require.NoError(t, err)
			made, listed := new(cluster), new(cluster)
			for _, document := range documents(out)[1:] {
				require.NoError(t, made.add(document))
			}
			require.Empty(t, listed.addExample(filepath.Join("overlays", name, "secrets.example.yaml")))
			require.NotEmpty(t, made.secrets)
			for _, want := range listed.secrets {
				if want.Name == "ingress-tls" {
					continue
				}
				got := made.secret(want.Name)
				require.NotNil(t, got, want.Name)
				require.Equal(t, slices.Sorted(maps.Keys(want.Data)), slices.Sorted(maps.Keys(got.Data)), want.Name)
				for key, value := range got.Data {
					require.NotEmpty(t, strings.TrimSpace(string(value)), "%s/%s", want.Name, key)
					require.NotContains(t, string(value), "PASSWORD@", "%s/%s", want.Name, key)
				}
			}
			require.Len(t, made.secrets, len(slices.DeleteFunc(listed.secrets, func(s *secretKind) bool { return s.Name == "ingress-tls" })))
		})
	}
}

// The demo's copies of what compose mounts are the same; Redis has less memory there.
func TestDemo_HasTheServersOfCompose(t *testing.T) {
	for name, of := range map[string]string{
		"start.sh": "postgres", "pg_hba.conf": "postgres", "roles.sh": "postgres", "roles.psql": "postgres", "redis.conf": "redis",
	} {
		want, err := os.ReadFile(filepath.Join("..", of, name))
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join("overlays", "demo", name))
		require.NoError(t, err)
		require.Equal(t, strings.Replace(string(want), "maxmemory 768mb", "maxmemory 384mb", 1), string(got), name)
	}
}
