// Package secretstest starts the servers of a deployment as they are shipped: with the
// configurations in deploy, and secrets as the package secrets makes them. It is for tests.
package secretstest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("secretstest: %v", err)
	}
}

func read(t testing.TB, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	must(t, err)
	return string(text)
}

// NATSOptions reads the nats.conf of a directory. secrets is the directory that a container
// has at /run/secrets; its path ends so here, too.
func NATSOptions(t testing.TB, from, secrets string) *devtest.NATSConfig {
	t.Helper()
	root := filepath.Dir(filepath.Dir(secrets))
	etc := filepath.Join(root, "etc", "nats")
	must(t, os.MkdirAll(etc, 0o755))
	paths := strings.NewReplacer(`"/run/`, `"`+root+`/run/`, `"/data"`, `"`+root+`/data"`, `"/var/run/nats/`, `"`+root+`/`)
	for _, name := range []string{"nats.conf", "authorization.conf"} {
		must(t, os.WriteFile(filepath.Join(etc, name), []byte(paths.Replace(read(t, from, name))), 0o600))
	}
	return devtest.ReadNATSFile(t, filepath.Join(etc, "nats.conf"))
}

// Redis starts a redis-server by deploy/redis/redis.conf and returns its address.
func Redis(t testing.TB, deploy, secrets string) string {
	t.Helper()
	address, _ := RedisIn(t, deploy, secrets, t.TempDir())
	return address
}

// RedisIn is [Redis] with its data in a directory that another one may have left. kill ends it.
func RedisIn(t testing.TB, deploy, secrets, data string) (address string, kill func()) {
	t.Helper()
	text := read(t, deploy, "redis", "redis.conf")
	return devtest.StartRedisFile(t, func(port int, _ string) string {
		return strings.NewReplacer("/run/secrets/", secrets+"/", "tls-port 6379", fmt.Sprint("tls-port ", port), "dir /data", "dir "+data).Replace(text) + "bind 127.0.0.1\n"
	})
}

// Sentinels starts a master, its replica and a Sentinel that needs nobody else's vote, by the
// files in deploy/k8s/components/redis. It returns the Sentinel's address.
func Sentinels(t testing.TB, deploy, secrets string) (sentinel string, killMaster func()) {
	t.Helper()
	from := filepath.Join(deploy, "k8s", "components", "redis")
	words := map[string]string{}
	for line := range strings.Lines(read(t, secrets, "redis_replication")) {
		name, word, _ := strings.Cut(strings.TrimSpace(line), "=")
		words[name] = word
	}
	start := func(more string) (string, func()) {
		return devtest.StartRedisFile(t, func(port int, data string) string {
			paths := strings.NewReplacer("/run/secrets/", secrets+"/", "tls-port 6379", fmt.Sprint("tls-port ", port), "dir /data", "dir "+data, "replica-announce-ip ${SELF}", "")
			return paths.Replace(read(t, from, "redis.conf")) + "bind 127.0.0.1\nmasterauth " + words["REPLICA_PASSWORD"] + "\n" + more
		})
	}
	master, kill := start("")
	_, port, _ := strings.Cut(master, ":")
	start("replicaof 127.0.0.1 " + port + "\n")

	data := t.TempDir()
	script := strings.NewReplacer("/run/secrets/", secrets+"/", "/data", data, "exec redis-server $file --sentinel", "cat $file").Replace(read(t, from, "start-sentinel.sh"))
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	cmd.Env = append(os.Environ(), "POD_NAME=redis-sentinel-0", "POD_NAMESPACE=ledgerfeed")
	text, err := cmd.Output()
	must(t, err)
	sentinel, _ = devtest.StartRedisFile(t, func(own int, dir string) string {
		return strings.NewReplacer(
			"tls-port 26379", fmt.Sprint("tls-port ", own), "redis-0.redis.ledgerfeed.svc 6379 2", "127.0.0.1 "+port+" 1", "dir "+data, "dir "+dir,
			"sentinel announce-ip redis-sentinel-0.redis-sentinel.ledgerfeed.svc", "", "ledgerfeed 5000", "ledgerfeed 500", "ledgerfeed 30000", "ledgerfeed 5000",
		).Replace(string(text)) + "bind 127.0.0.1\n"
	}, "--sentinel")
	return sentinel, kill
}

// Postgres starts a PostgreSQL by deploy/postgres/pg_hba.conf, with its roles. It also returns
// the script that makes them.
func Postgres(t testing.TB, deploy, secrets string) (db *devtest.SecuredPostgres, roles string) {
	t.Helper()
	db = devtest.StartSecuredPostgres(t, devtest.PostgresFiles{
		Certificate: read(t, secrets, "postgres.crt"), Key: read(t, secrets, "postgres.key"), Access: read(t, deploy, "postgres", "pg_hba.conf"),
	})
	scripts := t.TempDir()
	roles = filepath.Join(scripts, "roles.sh")
	must(t, os.WriteFile(roles, []byte(strings.ReplaceAll(read(t, deploy, "postgres", "roles.sh"), "/run/secrets/", secrets+"/")), 0o600))
	must(t, os.WriteFile(filepath.Join(scripts, "roles.psql"), []byte(read(t, deploy, "postgres", "roles.psql")), 0o600))
	db.Script(roles)
	return db, roles
}
