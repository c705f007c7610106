package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// Field describes one setting, for documentation.
type Field struct {
	Env     string // LEDGERFEED_INGRESS_LISTEN
	Key     string // ingress.listen
	Type    string // string, secret, duration, integer, number, boolean, list, …
	Default string // what it is without being set; of a secret only its default tag
	Doc     string // the doc tag
}

// Describe lists the settings of cfg, a pointer to a struct that holds the
// defaults, in the order of its fields. It panics when cfg is not such a struct:
// that is a mistake in the program which [Load] reports as an error.
func Describe(cfg any) []Field {
	s, err := schemaOf(cfg)
	if err != nil {
		panic(err)
	}
	fields := make([]Field, 0, len(s.fields))
	for _, f := range s.fields {
		fields = append(fields, Field{
			Env: f.env, Key: f.key, Type: typeName(f.value.Type()), Default: f.defaultText(), Doc: f.tag.Get("doc"),
		})
	}
	return fields
}

// schema is what a program can be set to, taken from its struct.
type schema struct {
	fields []*field
	byKey  map[string]*field
	byEnv  map[string]*field
	groups map[string]bool // the first part of each key
}

// field is one leaf of the struct.
type field struct {
	key    string
	env    string
	secret bool
	file   bool // X_FILE may name a file with the value
	tag    reflect.StructTag
	value  reflect.Value // settable
}

func schemaOf(cfg any) (*schema, error) {
	v := reflect.ValueOf(cfg)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return nil, fmt.Errorf("config: want a pointer to a struct, got %T", cfg)
	}
	s := &schema{byKey: map[string]*field{}, byEnv: map[string]*field{}, groups: map[string]bool{}}
	if err := s.add(v.Elem(), ""); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *schema) add(v reflect.Value, prefix string) error {
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		name, options, _ := strings.Cut(sf.Tag.Get("koanf"), ",")
		switch {
		case !sf.IsExported(), name == "-":
			continue
		case options == "squash":
			if err := s.add(v.Field(i), prefix); err != nil {
				return err
			}
			continue
		case name == "":
			return fmt.Errorf("config: field %s of %s has no koanf tag", sf.Name, v.Type())
		}
		key := prefix + name
		if sf.Type.Kind() == reflect.Struct && !isText(sf.Type) {
			if err := s.add(v.Field(i), key+"."); err != nil {
				return err
			}
			continue
		}
		if typeName(sf.Type) == "" {
			return fmt.Errorf("config: field %s of %s has the type %s, which cannot be read", sf.Name, v.Type(), sf.Type)
		}
		f := &field{key: key, env: envName(key), secret: isSecret(sf.Type), tag: sf.Tag, value: v.Field(i)}
		f.file = f.secret || sf.Tag.Get("file") == "true"
		if other, ok := s.byEnv[f.env]; ok {
			return fmt.Errorf("config: %s and %s are both %s", other.key, f.key, f.env)
		}
		s.fields = append(s.fields, f)
		s.byKey[f.key], s.byEnv[f.env] = f, f
		group, _, _ := strings.Cut(key, ".")
		s.groups[group] = true
	}
	return nil
}

// foreign reports whether a group belongs to another service.
func (s *schema) foreign(group string) bool {
	if s.groups[group] {
		return false
	}
	for _, g := range Groups() {
		if g == group {
			return true
		}
	}
	return false
}

func (f *field) defaultText() string {
	if text, ok := f.tag.Lookup("default"); ok {
		return text
	}
	if f.secret {
		return ""
	}
	return text(f.value)
}

func text(v reflect.Value) string {
	if d, ok := v.Interface().(time.Duration); ok {
		return shortDuration(d)
	}
	if v.Kind() != reflect.Slice {
		return fmt.Sprint(v.Interface())
	}
	parts := make([]string, 0, v.Len())
	for i := range v.Len() {
		parts = append(parts, text(v.Index(i)))
	}
	return strings.Join(parts, ",")
}

// shortDuration is d without the parts that are zero: 24h, not 24h0m0s.
func shortDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func envName(key string) string {
	return Prefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(key))
}

func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func isSecret(t reflect.Type) bool {
	return t == reflect.TypeFor[secret.String]() || t == reflect.TypeFor[[]secret.String]()
}

// typeName is the type for people; empty when it cannot be read.
func typeName(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[secret.String]():
		return "secret"
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	case isText(t):
		return "text"
	}
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "integer"
	case reflect.Float32, reflect.Float64:
		return "number"
	case reflect.Slice:
		if of := typeName(t.Elem()); of != "" && t.Elem().Kind() != reflect.Slice {
			return "list of " + of
		}
	}
	return ""
}
