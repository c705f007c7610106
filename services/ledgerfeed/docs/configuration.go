package docs

import (
	"fmt"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/cli"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/doctor"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

const intro = `# Configuration

<!-- Made from the Config structs by make generate; do not edit. -->

Every service reads a YAML file (` + "`--config FILE` or `LEDGERFEED_CONFIG`" + `) and then the environment,
which takes precedence. The setting ` + "`nats.url` is `LEDGERFEED_NATS_URL`" + ` in the environment and
` + "`url` under `nats`" + ` in the file. Durations are written like ` + "`30s` or `24h`" + `, lists with commas.

- A secret can be given as a file instead: ` + "`LEDGERFEED_INGRESS_APPS_FILE`" + `. So can ` + "`nats.user`" + `,
  ` + "`qbo.client_id` and `processor.sinks`" + `; see [secrets](deployment.md#secrets).
- An unknown setting is refused with the name of the nearest known one. Settings of other services
  are ignored, so that one environment can serve all of them.
- Every error names the setting and the remedy. Exit code 2 means that the configuration is wrong.
  Commands exit with 3 if a server does not answer; services wait for it.

`

// Group is a table of the page: settings that belong together and who reads them.
type group struct {
	name     string
	services []string
	fields   []config.Field
}

// Configuration is docs/configuration.md.
func Configuration() string {
	var groups []*group
	byName := map[string]*group{}
	add := func(service string, cfg any) {
		for _, f := range config.Describe(cfg) {
			name, _, _ := strings.Cut(f.Key, ".")
			g := byName[name]
			if g == nil {
				g = &group{name: name}
				byName[name] = g
				groups = append(groups, g)
			}
			if n := len(g.services); n == 0 || g.services[n-1] != service {
				g.services = append(g.services, service)
			}
			if len(g.services) == 1 {
				g.fields = append(g.fields, f)
			}
		}
	}
	in, pro, rec := ingress.DefaultConfig(), processor.DefaultConfig(), reconciler.DefaultConfig()
	tool, servers := cli.DefaultConfig(), cli.DefaultServerConfig()
	broker, again, look := cli.DefaultBrokerConfig(), cli.DefaultReplayConfig(), cli.DefaultStateConfig()
	exam, setup, console := doctor.DefaultConfig(), cli.DefaultSetupConfig(), cli.DefaultConsoleConfig()
	add("ingress", &in)
	add("processor", &pro)
	add("reconciler", &rec)
	add("ledgerfeed", &tool)
	add("ledgerfeed connect, realm, token, budget", &servers)
	page := cli.DefaultConnectConfig()
	add("ledgerfeed connect and console", &page)
	add("ledgerfeed dead", &broker)
	add("ledgerfeed replay", &again)
	add("ledgerfeed doctor", &exam)
	add("ledgerfeed setup", &setup)
	add("ledgerfeed gap, cursor, scan, backfill, sink and session", &look)
	add("ledgerfeed console", &console)

	var b strings.Builder
	b.WriteString(intro)
	for _, g := range groups {
		fmt.Fprintf(&b, "## %s\nRead by: %s.\n\n| variable | type | default | meaning |\n|---|---|---|---|\n", g.name, strings.Join(g.services, ", "))
		for _, f := range g.fields {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Env, f.Type, defaultText(f), strings.ReplaceAll(f.Doc, "|", `\|`))
		}
		b.WriteString("\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func defaultText(f config.Field) string {
	if f.Default == "" {
		return ""
	}
	return "`" + f.Default + "`"
}
