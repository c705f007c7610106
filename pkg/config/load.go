package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
)

// Prefix starts the name of every environment variable that is read.
const Prefix = "LEDGERFEED_"

// FileEnv names the configuration file when the program was given none.
const FileEnv = Prefix + "CONFIG"

// Groups are the groups of all services. What belongs to a group a program does
// not have is for another one, and left alone.
func Groups() []string {
	return []string{
		"admin", "connection", "console", "ingress", "log", "nats", "processor", "qbo",
		"reconciler", "redis", "setup", "sim", "trace",
	}
}

// Load fills cfg, a pointer to a struct that holds the defaults, from file and
// then from environ (as os.Environ gives it), and calls cfg.Validate() if there
// is one and every value could be read. An empty file means the one named by
// LEDGERFEED_CONFIG, else none.
//
// An empty variable counts as not set. A secret X may be given as X_FILE (x_file
// in the file): the path of a file with its value, from which the line end is
// cut; so may a field with the tag file:"true", in which a secret often stands beside
// others. Fields of these types are understood: string, bool, numbers,
// time.Duration ("30s"), encoding.TextUnmarshaler such as secret.String, and
// slices of them (comma separated in the environment).
//
// The error joins all problems and asks for [lifecycle.ExitUsage].
func Load(cfg any, file string, environ []string) error {
	s, err := schemaOf(cfg)
	if err != nil {
		return err
	}
	settings, errs := s.read(file, environ)
	for _, set := range settings {
		if err := set.apply(); err != nil {
			errs = append(errs, err)
		}
	}
	if v, ok := cfg.(interface{ Validate() error }); ok && len(errs) == 0 {
		errs = append(errs, v.Validate())
	}
	return lifecycle.Usage(errors.Join(errs...))
}

// read returns what the file and then the environment set.
func (s *schema) read(file string, environ []string) (settings []setting, errs []error) {
	if file == "" {
		file = lookup(environ, FileEnv)
	}
	if file != "" {
		settings, errs = s.readFile(file)
	}
	fromEnv, eerrs := s.readEnv(environ)
	return append(settings, fromEnv...), append(errs, eerrs...)
}

// setting is a value some source gives to a field.
type setting struct {
	field  *field
	source string // as the operator knows it: the variable, or the file and key
	file   bool   // value is the path of a file that holds the value
	value  any
}

// resolve turns the settings of one source into one a field: X and X_FILE of
// the same secret contradict each other.
func resolve(settings []setting) ([]setting, []error) {
	slices.SortFunc(settings, func(a, b setting) int { return strings.Compare(a.source, b.source) })
	seen := map[*field]string{}
	var errs []error
	for _, s := range settings {
		if other, ok := seen[s.field]; ok {
			errs = append(errs, fmt.Errorf("%s: contradicts %s, set one of them", s.source, other))
		}
		seen[s.field] = s.source
	}
	return settings, errs
}

// Lookup is the value of another variable of an environment; empty where it is not set.
func Lookup(environ []string, name string) string { return lookup(environ, name) }

func lookup(environ []string, name string) string {
	for _, e := range environ {
		if k, v, ok := strings.Cut(e, "="); ok && k == name {
			return v
		}
	}
	return ""
}
