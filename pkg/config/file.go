package config

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readFile returns the settings of a YAML file and what is wrong with its keys.
func (s *schema) readFile(path string) ([]setting, []error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, []error{fmt.Errorf("configuration file %s: %w", path, err)}
	}
	var groups map[string]any
	if err := yaml.Unmarshal(content, &groups); err != nil {
		return nil, []error{fmt.Errorf("configuration file %s: %w", path, err)}
	}
	values := map[string]any{}
	flatten(values, "", groups)
	var settings []setting
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(values)) {
		value := values[key]
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

// flatten puts a setting of a group under group.setting. An empty group has no value.
func flatten(into map[string]any, key string, value any) {
	inner := map[string]any{}
	switch value := value.(type) {
	case map[string]any:
		inner = value
	case map[any]any: // some key is no text
		for k, v := range value {
			inner[fmt.Sprint(k)] = v
		}
	default:
		into[key] = value
		return
	}
	if len(inner) == 0 && key != "" {
		into[key] = nil
	}
	for k, v := range inner {
		flatten(into, strings.TrimPrefix(key+"."+k, "."), v)
	}
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
