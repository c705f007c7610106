package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

type configCmd struct {
	Show  configShowCmd  `cmd:"" help:"Show the effective settings of a service and their sources."`
	Check configCheckCmd `cmd:"" help:"Validate the settings of services without starting them."`
}

// serviceConfig is the configuration of a service, with its defaults.
func serviceConfig(service string) any {
	switch service {
	case "ingress":
		c := ingress.DefaultConfig()
		return &c
	case "processor":
		c := processor.DefaultConfig()
		return &c
	default:
		c := reconciler.DefaultConfig()
		return &c
	}
}

type configShowCmd struct {
	Service string `arg:"" enum:"ingress,processor,reconciler" help:"Service: ingress, processor or reconciler."`
	File    string `name:"config" placeholder:"FILE" help:"YAML settings file of the service (LEDGERFEED_CONFIG)."`
	Changed bool   `help:"Show only settings that differ from the default."`
	JSON    bool   `help:"Print one JSON object per line."`
}

// Help is the long help of the command.
func (configShowCmd) Help() string {
	return `Reads the file and the environment as the service would and shows each setting, its value and its source:
default, the variable, or the file and the key. Secrets, passwords and queries of URLs are [REDACTED].
Exits 2 if a setting cannot be used; the others are shown all the same.

Examples:
  ledgerfeed config show ingress
  ledgerfeed config show processor --config ledgerfeed.yaml --changed
  ledgerfeed config show reconciler --json | jq -r 'select(.source != "default") | .env'`
}

// Run shows.
func (c *configShowCmd) Run(p process) error {
	values, wrong := config.Explain(serviceConfig(c.Service), c.File, os.Environ())
	enc := json.NewEncoder(p.stdout)
	enc.SetEscapeHTML(false)
	t := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	if !c.JSON {
		fmt.Fprintln(t, "SETTING\tVALUE\tSOURCE")
	}
	for _, v := range values {
		if c.Changed && v.Source == config.Default {
			continue
		}
		if c.JSON {
			if err := enc.Encode(v); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", v.Key, orDash(v.Value), v.Source)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return lifecycle.Usage(wrong)
}

type configCheckCmd struct {
	Service []string `arg:"" optional:"" enum:"ingress,processor,reconciler" help:"Services: ingress, processor, reconciler (default: all)."`
	File    string   `name:"config" placeholder:"FILE" help:"YAML settings file of the services (LEDGERFEED_CONFIG)."`
}

// Help is the long help of the command.
func (configCheckCmd) Help() string {
	return `Reads the file and the environment as the services would, and names every setting that is unknown or cannot be
used, without starting anything or asking a server. Exits 0 if all can be used, 2 if not.

Examples:
  ledgerfeed config check
  ledgerfeed config check ingress --config ledgerfeed.yaml`
}

// Run checks.
func (c *configCheckCmd) Run(p process) error {
	services := c.Service
	if len(services) == 0 {
		services = []string{"ingress", "processor", "reconciler"}
	}
	bad := 0
	for _, s := range services {
		err := config.Load(serviceConfig(s), c.File, os.Environ())
		if err == nil {
			fmt.Fprintf(p.stdout, "%s: ok\n", s)
			continue
		}
		bad++
		fmt.Fprintf(p.stdout, "%s:\n%s\n", s, indented(err.Error()))
	}
	if bad > 0 {
		return lifecycle.Usage(fmt.Errorf("the settings of %d of %d services cannot be used", bad, len(services)))
	}
	return nil
}

// indented puts every line two columns to the right.
func indented(s string) string {
	return "  " + strings.ReplaceAll(s, "\n", "\n  ")
}
