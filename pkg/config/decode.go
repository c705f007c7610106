package config

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// apply writes the value into its field. The error names the source, never the
// value of a secret.
func (s setting) apply() error {
	value := s.value
	if s.file {
		content, err := s.readValue()
		if err != nil {
			return fmt.Errorf("%s: %w", s.source, err)
		}
		value = content
	}
	err := decode(s.field.value, value)
	if err == nil {
		return nil
	}
	if s.field.secret || s.file {
		return fmt.Errorf("%s: is not a %s", s.source, typeName(s.field.value.Type()))
	}
	return fmt.Errorf("%s: %w", s.source, err)
}

func (s setting) readValue() (string, error) {
	path, ok := s.value.(string)
	if !ok {
		return "", errors.New("is not the path of a file")
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	text := strings.TrimRight(string(content), "\r\n")
	if text == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return text, nil
}

// decode sets v from what YAML or the environment gave.
func decode(v reflect.Value, value any) error {
	text, isString := value.(string)
	switch {
	case v.Kind() == reflect.Slice && !isText(v.Type()):
		return decodeList(v, value)
	case v.Type() == reflect.TypeFor[time.Duration]():
		return decodeDuration(v, value)
	case isText(v.Type()):
		if !isString {
			return fmt.Errorf("%v is not text (put it in quotes)", value)
		}
		return v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text))
	}
	switch v.Kind() {
	case reflect.String:
		if !isString {
			// 007 is a number in YAML and would arrive as 7.
			return fmt.Errorf("%v is not text (put it in quotes)", value)
		}
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(fmt.Sprint(value))
		if err != nil {
			return fmt.Errorf("%q is not a boolean (true or false)", fmt.Sprint(value))
		}
		v.SetBool(b)
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(fmt.Sprint(value), 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) || v.OverflowFloat(f) {
			return fmt.Errorf("%q is not a number", fmt.Sprint(value))
		}
		v.SetFloat(f)
	default:
		return decodeInteger(v, value)
	}
	return nil
}

func decodeInteger(v reflect.Value, value any) error {
	text := fmt.Sprint(value)
	if f, ok := value.(float64); ok && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		text = strconv.FormatFloat(f, 'f', 0, 64) // 1e6
	}
	wrong := fmt.Errorf("%q is not an integer from %s", fmt.Sprint(value), span(v))
	if v.CanUint() {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil || v.OverflowUint(n) {
			return wrong
		}
		v.SetUint(n)
		return nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || v.OverflowInt(n) {
		return wrong
	}
	v.SetInt(n)
	return nil
}

func span(v reflect.Value) string {
	bits := v.Type().Bits()
	if v.CanUint() {
		return fmt.Sprintf("0 to %d", ^uint64(0)>>(64-bits))
	}
	return fmt.Sprintf("%d to %d", int64(math.MinInt64)>>(64-bits), int64(math.MaxInt64)>>(64-bits))
}

func decodeDuration(v reflect.Value, value any) error {
	text := fmt.Sprint(value)
	d, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is not a duration (a number with a unit: 500ms, 30s, 24h)", text)
	}
	v.SetInt(int64(d))
	return nil
}

// decodeList sets a slice; the default is replaced, not added to.
func decodeList(v reflect.Value, value any) error {
	var items []any
	switch value := value.(type) {
	case []any:
		items = value
	case string:
		for _, item := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == '\n' }) {
			if item = strings.TrimSpace(item); item != "" {
				items = append(items, item)
			}
		}
	default:
		return fmt.Errorf("%v is not a list", value)
	}
	list := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		if err := decode(list.Index(i), item); err != nil {
			return fmt.Errorf("item %d: %w", i+1, err)
		}
	}
	v.Set(list)
	return nil
}
