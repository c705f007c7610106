package secrets

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// natsUsers are the users in authorization.conf beside the servers' own files.
var natsUsers = []string{"ingress", "processor", "reconciler", "console", "setup"}

// nats makes a seed for each user, and the file with their public keys, which is made again
// with each run; and how the servers of a cluster know each other.
func (m *maker) nats() error {
	var public strings.Builder
	for _, user := range natsUsers {
		id, err := m.nkey("nats_" + user + ".nk")
		if err != nil {
			return err
		}
		fmt.Fprintf(&public, "NKEY_%s: %q\n", strings.ToUpper(user), id)
	}
	if err := m.replace("nats_users", public.String(), fileMode); err != nil {
		return err
	}
	m.Say("made", "nats_users")
	word := password()
	routes := fmt.Sprintf("authorization {user: route, password: %q, timeout: 5}\nroutes: [\n", word)
	for i := range 3 {
		routes += fmt.Sprintf("  \"nats://route:%s@nats-%d.nats:6222\"\n", word, i)
	}
	return m.write("nats_routes", routes+"]")
}

// nkey returns the public key of a seed, which is made if it is missing.
func (m *maker) nkey(name string) (public string, err error) {
	if !m.there(name) {
		seed, err := stream.NewNkey()
		if err != nil {
			return "", err
		}
		if err := m.write(name, seed); err != nil {
			return "", err
		}
	} else {
		m.Say("kept", name)
	}
	text, err := os.ReadFile(m.path(name))
	if err != nil {
		return "", err
	}
	if public, err = stream.PublicNkey(string(text)); err != nil {
		return "", fmt.Errorf("%s: no seed in it", name)
	}
	return public, nil
}

// redisURLs are where the users of Redis find it, by the file with their URL.
var redisURLs = map[string]string{
	"redis_processor_url": "processor", "redis_reconciler_url": "reconciler", "redis_console_url": "console", "redis_simulator_url": "simulator",
}

// redis makes the users of Redis and of its Sentinels, and a URL for each service. The files
// of the servers hold hashes, but for what they log in to each other with.
func (m *maker) redis() error {
	names := []string{"redis_users", "redis_replication", "redis_sentinel_users", "redis_sentinel_password"}
	for file := range redisURLs {
		names = append(names, file)
	}
	missing, err := m.together(names...)
	if err != nil || !missing {
		return err
	}
	// The default user is off: nobody can log in as it. It keeps its permissions, since Redis
	// checks those when it reads transactions from its append-only file at a start: without
	// them it skips each write of a script.
	users := "user default off resetpass sanitize-payload allkeys allchannels +@all\n"
	for file, user := range redisURLs {
		word := password()
		rule := state.ServiceACLRule
		if user == "simulator" {
			rule = state.SimulatorACLRule
		}
		users += fmt.Sprintf("user %s on #%s %s\n", user, hash(word), rule)
		if err := m.write(file, "rediss://"+user+":"+word+"@redis:6379/0"); err != nil {
			return err
		}
	}
	replica, sentinel := password(), password()
	// What a healthcheck asks; it needs no secret.
	users += "user health on nopass resetkeys resetchannels -@all +ping\n"
	users += fmt.Sprintf("user replica on #%s resetkeys resetchannels -@all +psync +replconf +ping\n", hash(replica))
	users += fmt.Sprintf("user sentinel on #%s resetkeys allchannels -@all +multi +slaveof +replicaof +ping +exec +subscribe +config|rewrite +role +publish +info +client|setname +client|kill +script|kill\n", hash(sentinel))
	service := password()
	own := password()
	atSentinel := fmt.Sprintf("user default off\nuser peer on #%s allchannels +@all\n", hash(own)) +
		"user health on nopass resetchannels -@all +ping\n" +
		fmt.Sprintf("user services on #%s allchannels -@all +ping +auth +hello +role +subscribe +psubscribe +unsubscribe +punsubscribe +client|setname +client|getname +client|id "+
			"+sentinel|get-master-addr-by-name +sentinel|master +sentinel|replicas +sentinel|sentinels +sentinel|myid\n", hash(service))
	return errors.Join(
		m.write("redis_users", users),
		m.write("redis_replication", fmt.Sprintf("REPLICA_PASSWORD=%s\nSENTINEL_PASSWORD=%s\nPEER_PASSWORD=%s", replica, sentinel, own)),
		m.write("redis_sentinel_users", atSentinel),
		m.write("redis_sentinel_password", service),
	)
}

func hash(word string) string {
	sum := sha256.Sum256([]byte(word))
	return hex.EncodeToString(sum[:])
}

// postgres makes the passwords of the owner of the server, who sets nothing up but the other
// two roles, of the role that migrates and of the one that writes.
func (m *maker) postgres() error {
	if err := m.write("postgres_password", password()); err != nil {
		return err
	}
	for _, role := range []struct{ name, file, pgpass string }{
		{"ledgerfeed_setup", "postgres_setup_password", "pgpass_setup"},
		{"ledgerfeed", "postgres_writer_password", "pgpass_writer"},
	} {
		missing, err := m.together(role.file, role.pgpass)
		if err != nil {
			return err
		}
		if !missing {
			continue
		}
		word := password()
		if err := errors.Join(m.write(role.file, word), m.write(role.pgpass, "*:*:*:"+role.name+":"+word)); err != nil {
			return err
		}
	}
	return nil
}
