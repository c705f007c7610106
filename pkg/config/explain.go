package config

import "regexp"

// Value is a setting as it is in effect.
type Value struct {
	Key string `json:"key"` // ingress.listen
	Env string `json:"env"` // LEDGERFEED_INGRESS_LISTEN
	// Value is [REDACTED] for a secret that is set, and has no password of a URL in it.
	Value string `json:"value"`
	// Source is default, the name of the variable, or the file and the key in it.
	Source string `json:"source"`
}

// Default is the source of what nobody has set.
const Default = "default"

const redacted = "[REDACTED]"

// Explain is [Load] that also says what came of each setting and from where. The
// values are there beside an error, too, as far as they could be read.
func Explain(cfg any, file string, environ []string) ([]Value, error) {
	s, err := schemaOf(cfg)
	if err != nil {
		return nil, err
	}
	settings, _ := s.read(file, environ) // Load tells the errors
	sources := map[string]string{}
	for _, set := range settings {
		sources[set.field.key] = set.source
	}
	err = Load(cfg, file, environ)
	values := make([]Value, 0, len(s.fields))
	for _, f := range s.fields {
		v := Value{Key: f.key, Env: f.env, Value: withoutSecrets(text(f.value)), Source: sources[f.key]}
		if v.Source == "" {
			v.Source = Default
		}
		if f.secret && !f.value.IsZero() {
			v.Value = redacted
		}
		values = append(values, v)
	}
	return values, err
}

var (
	password = regexp.MustCompile(`(://[^:@/\s]*):\S*@`)
	query    = regexp.MustCompile(`(://[^?\s]*\?)[^\s,]+`)
	keyword  = regexp.MustCompile(`(?i)(password=)('[^']*'|\S+)`)
)

// withoutSecrets hides what a URL or a connection string in a plain setting may hold.
func withoutSecrets(s string) string {
	s = password.ReplaceAllString(s, "$1:"+redacted+"@")
	s = query.ReplaceAllString(s, "${1}"+redacted)
	return keyword.ReplaceAllString(s, "${1}"+redacted)
}
