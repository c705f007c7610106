package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/term"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/secrets"
)

type secretsCmd struct {
	Dir   string        `arg:"" help:"Output directory."`
	Host  []string      `placeholder:"NAME" help:"Additional name or address for the server certificates (comma-separated)."`
	Valid time.Duration `placeholder:"TIME" default:"17520h" help:"Validity of the certificates (${default}, two years)."`
}

// Help is the long help of the command.
func (secretsCmd) Help() string {
	return `Makes the secrets of a deployment in a directory, those that are not there yet: a certificate authority and the
certificates of NATS, Redis and PostgreSQL, an nkey for each NATS user, users of Redis, roles of PostgreSQL, the key
that encrypts tokens, and what people log in with. A certificate that ends within 60 days is renewed. Two secrets
come from Intuit's portal: it asks for them on a terminal, or takes them from INGRESS_APPS and QBO_CLIENT_SECRET.

docker-compose.yml reads the directory that SECRETS_DIR names; deploy/k8s/make-secrets makes Secrets of it. Keep
ca.key and connection_keys elsewhere, too: without the latter no token can be read.

Examples:
  ledgerfeed secrets secrets
  ledgerfeed secrets secrets --host redis.example.com,10.0.0.7`
}

// Run makes them.
func (c *secretsCmd) Run(p process) error {
	o := secrets.Options{
		Dir: c.Dir, Hosts: c.Host, Valid: c.Valid, IngressApps: os.Getenv("INGRESS_APPS"), ClientSecret: os.Getenv("QBO_CLIENT_SECRET"),
		Say: func(what, name string) { fmt.Fprintf(p.stdout, "%-7s  %s\n", what, name) },
	}
	if err := c.ask(p, &o); err != nil {
		return err
	}
	err := secrets.Make(o)
	if _, missing := errors.AsType[*secrets.MissingError](err); missing {
		return lifecycle.Usage(fmt.Errorf("%w: run it in a terminal, or set INGRESS_APPS and QBO_CLIENT_SECRET", err))
	}
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(c.Dir)
	if err == nil {
		fmt.Fprintf(p.stdout, "set SECRETS_DIR=%s in .env\n", dir)
	}
	return err
}

// ask asks a person for what is missing.
func (c *secretsCmd) ask(p process, o *secrets.Options) error {
	in, ok := p.stdin.(*os.File)
	if !ok || !isTerminal(in) {
		return nil
	}
	for _, q := range []struct {
		file, text string
		answer     *string
	}{
		{"ingress_apps", "APP=VERIFIER_TOKEN (page Webhooks of the portal), such as production=...", &o.IngressApps},
		{"qbo_client_secret", "Client secret (page Keys & credentials)", &o.ClientSecret},
	} {
		if _, err := os.Stat(filepath.Join(c.Dir, q.file)); err == nil || *q.answer != "" {
			continue
		}
		fmt.Fprintf(p.stderr, "%s: ", q.text)
		text, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(p.stderr)
		if err != nil {
			return err
		}
		*q.answer = string(text)
	}
	return nil
}
