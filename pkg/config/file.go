package config

import (
	"fmt"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
)

// readFile returns the settings of a YAML file and what is wrong with its keys.
func (s *schema) readFile(path string) ([]setting, []error) {
	k := koanf.New(".")
	if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
		return nil, []error{fmt.Errorf("configuration file %s: %w", path, err)}
	}
	var settings []setting
	var errs []error
	for _, key := range k.Keys() {
		value := k.Get(key)
		group, _, _ := strings.Cut(key, ".")
		source := path + ": " + key
		f, isFile := s.fileKey(key)
		switch {
		case f != nil && value == nil:
			errs = append(errs, fmt.Errorf("%s: has no value", source))
		case f != nil:
			settings = append(settings, setting{field: f, source: source, file: isFile, value: value})
		case s.foreign(group), s.isGroup(key) && value == nil:
		case s.isGroup(key):
			errs = append(errs, fmt.Errorf("%s: is a group of settings, not a setting", source))
		default:
			errs = append(errs, fmt.Errorf("%s: unknown setting%s", source, s.nearestKey(key)))
		}
	}
	settings, contradictions := resolve(settings)
	return settings, append(errs, contradictions...)
}

// fileKey finds the field of a key; isFile says that the key is the _file one
// of a secret.
func (s *schema) fileKey(key string) (f *field, isFile bool) {
	if f, ok := s.byKey[key]; ok {
		return f, false
	}
	if base, ok := strings.CutSuffix(key, "_file"); ok {
		if f, ok := s.byKey[base]; ok && f.file {
			return f, true
		}
	}
	return nil, false
}

// isGroup reports whether key is a group or lies between a group and its fields.
func (s *schema) isGroup(key string) bool {
	for _, f := range s.fields {
		if strings.HasPrefix(f.key, key+".") {
			return true
		}
	}
	return false
}
