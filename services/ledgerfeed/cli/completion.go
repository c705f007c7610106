package cli

import (
	"fmt"
	"os"
	"strings"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"Shell: bash, zsh or fish."`
}

// Help is the long help of the command.
func (completionCmd) Help() string {
	return `Prints what has a shell complete commands and flags. The binary itself is asked, so it stays right after an upgrade.

Examples:
  source <(ledgerfeed completion bash)
  ledgerfeed completion bash >> ~/.bashrc
  ledgerfeed completion zsh >> ~/.zshrc
  ledgerfeed completion fish > ~/.config/fish/completions/ledgerfeed.fish`
}

// The shells' own functions: each gives the line so far in COMP_LINE and takes a
// suggestion a line (bash's complete -C).
var completions = map[string]string{
	"bash": "complete -o default -C %[1]s ledgerfeed\n",
	"zsh":  "autoload -U +X bashcompinit && bashcompinit\ncomplete -o default -C %[1]s ledgerfeed\n",
	"fish": "complete -c ledgerfeed -a '(set -lx COMP_LINE (commandline -cp); test -z (commandline -ct); and set COMP_LINE \"$COMP_LINE \"; %[1]s)'\n",
}

// Run prints.
func (c completionCmd) Run(p process) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the binary itself: %w", err)
	}
	_, err = fmt.Fprintf(p.stdout, completions[c.Shell], "'"+strings.ReplaceAll(self, "'", `'\''`)+"'")
	return err
}
