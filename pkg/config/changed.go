package config

import "reflect"

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
