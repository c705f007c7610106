package action

import (
	"os"
	"os/user"
	"strings"
)

// System is who uses the command line, as USER@HOST: the operating system's word for it.
// environ is searched for the person behind sudo.
func System(environ []string) (who, host string) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	for _, e := range environ {
		if person, ok := strings.CutPrefix(e, "SUDO_USER="); ok && person != "" && person != name {
			name = person + " as " + name
		}
	}
	return name + "@" + host, host
}
