package config

import (
	"reflect"
	"slices"
)

// Changed returns the keys (ingress.listen) of the settings that differ between
// two configurations, pointers as for [Load], in the order of their fields. It
// shows no values. A struct that Load refuses has none.
func Changed[T any](before, after *T) []string {
	b, berr := schemaOf(before)
	a, aerr := schemaOf(after)
	if berr != nil || aerr != nil {
		return nil
	}
	var keys []string
	for i, f := range a.fields {
		if !reflect.DeepEqual(b.fields[i].value.Interface(), f.value.Interface()) {
			keys = append(keys, f.key)
		}
	}
	return keys
}

// Live returns those of the keys whose fields have the tag live:"true": the program takes
// them while it runs.
func Live[T any](of *T, keys []string) []string {
	s, err := schemaOf(of)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(keys), func(key string) bool {
		f := s.byKey[key]
		return f == nil || f.tag.Get("live") != "true"
	})
}

// Copy sets the settings of to that keys name to what they are in from.
func Copy[T any](to, from *T, keys []string) {
	t, terr := schemaOf(to)
	f, ferr := schemaOf(from)
	if terr != nil || ferr != nil {
		return
	}
	for _, key := range keys {
		if t.byKey[key] != nil && f.byKey[key] != nil {
			t.byKey[key].value.Set(f.byKey[key].value)
		}
	}
}
