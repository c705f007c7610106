// Package config reads what an operator sets: a YAML file, then environment
// variables named LEDGERFEED_<GROUP>_<FIELD> over it.
//
// A program declares its settings as a struct of groups with defaults in it:
//
//	type Config struct {
//		Log     telemetry.LogConfig `koanf:"log"`
//		Ingress IngressConfig       `koanf:"ingress"`
//	}
//
// where each field has a koanf tag (its name) and a doc tag (a sentence with its
// unit). The field "listen" of the group "ingress" is ingress.listen in the file
// and LEDGERFEED_INGRESS_LISTEN in the environment.
//
// It guarantees that a setting is never ignored in silence: an unknown group or
// field is an error that names the nearest known one, every problem is reported
// at once, and no error shows the value of a secret. Groups that belong to
// another service are known by name ([Groups]) and left alone, so that one file
// and one environment can serve all services.
//
// It does not change settings of a program that runs: package reload does, for fields
// with the tag live:"true", with what [Watch], [Changed] and [Copy] tell it.
package config
