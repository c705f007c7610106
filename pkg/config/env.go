package config

import (
	"fmt"
	"regexp"
	"strings"
)

// readEnv returns the settings of the environment and which variables no
// program understands.
func (s *schema) readEnv(environ []string) ([]setting, []error) {
	var settings []setting
	var errs []error
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, Prefix) || value == "" || name == FileEnv || isServiceLink(name, value) {
			continue
		}
		if f, isFile := s.envVar(name); f != nil {
			settings = append(settings, setting{field: f, source: name, file: isFile, value: value})
		} else if err := s.unknownVar(name); err != nil {
			errs = append(errs, err)
		}
	}
	settings, contradictions := resolve(settings)
	return settings, append(errs, contradictions...)
}

// envVar finds the field of a variable; isFile says that it is the _FILE one of
// a secret.
func (s *schema) envVar(name string) (f *field, isFile bool) {
	if f, ok := s.byEnv[name]; ok {
		return f, false
	}
	if base, ok := strings.CutSuffix(name, "_FILE"); ok {
		if f, ok := s.byEnv[base]; ok && f.file {
			return f, true
		}
	}
	return nil, false
}

// unknownVar is nil when the variable belongs to a group of another service.
func (s *schema) unknownVar(name string) error {
	if _, own := s.groupOf(name); own {
		return fmt.Errorf("%s: unknown setting%s", name, s.nearestVar(name))
	}
	for _, g := range Groups() {
		if s.foreign(g) && (name == envName(g) || strings.HasPrefix(name, envName(g)+"_")) {
			return nil
		}
	}
	return fmt.Errorf("%s: unknown group of settings%s", name, s.nearestVar(name))
}

// groupOf is the group of this program that a variable's name starts with.
func (s *schema) groupOf(name string) (string, bool) {
	for g := range s.groups {
		if name == envName(g) || strings.HasPrefix(name, envName(g)+"_") {
			return g, true
		}
	}
	return "", false
}

// serviceLink matches what Kubernetes puts into the environment of every pod
// for a Service named ledgerfeed-…; an operator did not write it.
var serviceLink = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

func isServiceLink(name, value string) bool {
	if !serviceLink.MatchString(name) {
		return false
	}
	// LEDGERFEED_X_PORT alone could be a mistyped setting: the link's value is a URL.
	return !strings.HasSuffix(name, "_PORT") || strings.HasSuffix(name, "_SERVICE_PORT") ||
		strings.Contains(value, "://") || strings.Contains(name, "_TCP_") || strings.Contains(name, "_UDP_")
}
