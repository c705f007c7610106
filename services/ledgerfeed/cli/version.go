package cli

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
)

type versionCmd struct {
	Modules bool `help:"Also list the modules of the binary."`
	JSON    bool `help:"Print one JSON object, including the modules."`
}

// Help is the long help of the command.
func (versionCmd) Help() string {
	return `Examples:
  ledgerfeed version
  ledgerfeed version --modules | grep nats
  ledgerfeed version --json | jq -r .go`
}

type versionView struct {
	Version  string            `json:"version"`
	Go       string            `json:"go"`
	Platform string            `json:"platform"`
	Modules  map[string]string `json:"modules"` // path → version
}

// Run prints.
func (c versionCmd) Run(p process) error {
	v := versionView{Version: lifecycle.Version(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Modules: map[string]string{}}
	var paths []string
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Version == "(devel)" || m.Replace != nil && strings.HasPrefix(m.Replace.Path, ".") {
				continue // ours: they have the version of the whole
			}
			paths = append(paths, m.Path)
			v.Modules[m.Path] = m.Version
		}
	}
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(v)
	}
	if _, err := fmt.Fprintln(p.stdout, "ledgerfeed", v.Version); err != nil || !c.Modules {
		return err
	}
	fmt.Fprintln(p.stdout, v.Go, v.Platform)
	for _, path := range paths {
		fmt.Fprintln(p.stdout, path, v.Modules[path])
	}
	return nil
}
