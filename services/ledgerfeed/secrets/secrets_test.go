package secrets_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/secrets"
)

// What is there stays, byte by byte, and what a new version needs is added.
func TestMake_ReplacesNoSecret(t *testing.T) {
	dir := given(t)
	before := contents(t, dir)
	require.NoError(t, os.Remove(filepath.Join(dir, "nats_console.nk")))
	require.NoError(t, os.Remove(filepath.Join(dir, "console_session_key")))
	require.NoError(t, secrets.Make(secrets.Options{Dir: dir, IngressApps: "other=token", ClientSecret: "other"}))
	for name, text := range contents(t, dir) {
		if name != "nats_console.nk" && name != "nats_users" && name != "console_session_key" {
			require.Equal(t, before[name], text, name)
		}
	}
	require.NotEqual(t, before["nats_users"], read(t, dir, "nats_users"), "it has the key of the new seed")
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		all[e.Name()] = read(t, dir, e.Name())
	}
	return all
}

// Others on the machine cannot get into the directory, and no secret is in two deployments.
func TestMake_KeepsOthersOut(t *testing.T) {
	dir, other := given(t), given(t)
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	key, err := os.Stat(filepath.Join(dir, "ca.key"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o400), key.Mode().Perm(), "no container reads it")
	given := []string{"ingress_apps", "qbo_client_secret", "console_verifier_token"}
	second := contents(t, other)
	for name, text := range contents(t, dir) {
		if !slices.Contains(given, name) {
			require.NotEqual(t, text, second[name], name)
		}
	}
}

// Files that hold one password in two forms are made together or not at all.
func TestMake_RefusesHalfOfAPair(t *testing.T) {
	dir := given(t)
	require.NoError(t, os.Remove(filepath.Join(dir, "redis_users")))
	require.ErrorContains(t, secrets.Make(secrets.Options{Dir: dir}), "redis_users: missing, and belongs together with")
}

func TestMake_NamesWhatOnlyIntuitKnows(t *testing.T) {
	err := secrets.Make(secrets.Options{Dir: filepath.Join(t.TempDir(), "s")})
	missing := new(secrets.MissingError)
	require.ErrorAs(t, err, &missing)
	require.Equal(t, []string{"ingress_apps", "qbo_client_secret"}, missing.Names)
}

// A certificate that ends soon is signed again by the same authority, and only it.
func TestMake_RenewsCertificatesThatEnd(t *testing.T) {
	dir := given(t)
	before := contents(t, dir)
	var renewed []string
	o := secrets.Options{Dir: dir, Say: func(what, name string) {
		if what == "renewed" {
			renewed = append(renewed, name)
		}
	}}
	o.Now = func() time.Time { return time.Now().AddDate(1, 0, 0) }
	require.NoError(t, secrets.Make(o))
	require.Empty(t, renewed)
	o.Now = func() time.Time { return time.Now().AddDate(1, 11, 0) }
	require.NoError(t, secrets.Make(o))
	require.ElementsMatch(t, []string{"nats.crt", "redis.crt", "postgres.crt"}, renewed)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM([]byte(before["ca.crt"])))
	for _, name := range renewed {
		block, _ := pem.Decode([]byte(read(t, dir, name)))
		cert, err := x509.ParseCertificate(block.Bytes)
		require.NoError(t, err)
		_, err = cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: strings.TrimSuffix(name, ".crt"), CurrentTime: o.Now()})
		require.NoError(t, err, name)
	}
}

var (
	composeSecret = regexp.MustCompile(`\{file: "\$\{SECRETS_DIR:-\./deploy/compose/demo\}/([^"]+)"\}`)
	mountedSecret = regexp.MustCompile(`/run/secrets/([a-z_.]+)`)
)

// docker-compose.yml names files that are made, and the demo has the same ones.
func TestCompose_NamesSecretsThatAreMade(t *testing.T) {
	made := contents(t, given(t))
	compose := read(t, deploy, "..", "docker-compose.yml")
	var named []string
	for _, m := range composeSecret.FindAllStringSubmatch(compose, -1) {
		require.Contains(t, made, m[1])
		require.FileExists(t, filepath.Join(deploy, "compose", "demo", m[1]))
		named = append(named, m[1])
	}
	require.Len(t, named, strings.Count(compose, "SECRETS_DIR:-"))
	for _, m := range mountedSecret.FindAllStringSubmatch(compose, -1) {
		require.Contains(t, named, m[1])
	}
}

// A secret is given to those who need it: no service has the key of another, and none that of
// the job that sets up.
func TestCompose_EachServiceHasItsOwnSecretsOnly(t *testing.T) {
	compose := read(t, deploy, "..", "docker-compose.yml")
	_, services, _ := strings.Cut(compose, "\nservices:\n")
	services, _, _ = strings.Cut(services, "\nsecrets:\n")
	for block := range strings.SplitSeq(services, "\n\n") {
		name := ""
		for line := range strings.Lines(block) {
			if strings.HasPrefix(line, "  ") && !strings.HasPrefix(line, "   ") && !strings.HasPrefix(line, "  #") {
				name = strings.TrimSuffix(strings.TrimSpace(line), ":")
			}
			list, ok := strings.CutPrefix(strings.TrimSpace(line), "secrets: [")
			if !ok {
				continue
			}
			for secret := range strings.SplitSeq(strings.TrimSuffix(list, "]"), ", ") {
				for _, owner := range []string{"ingress", "processor", "reconciler", "console", "setup", "simulator", "writer"} {
					if !strings.HasPrefix(secret, "nats_"+owner) && !strings.HasPrefix(secret, "redis_"+owner) && !strings.HasPrefix(secret, "pgpass_"+owner) {
						continue
					}
					of := map[string]string{"simulator": "quickbooks", "writer": "processor"}
					want := owner
					if of[owner] != "" {
						want = of[owner]
					}
					require.Equal(t, want, name, secret)
				}
				require.NotEqual(t, "ca.key", secret)
			}
		}
	}
}
