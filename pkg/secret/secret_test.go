package secret_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

const text = "hunter2-hunter2"

func TestString_ShowsInNoVerb(t *testing.T) {
	s := secret.String(text)
	holder := struct{ S secret.String }{s}
	for _, verb := range []string{"%s", "%v", "%+v", "%#v", "%q", "%x", "%X", "%d", "%T %v", "%10s", "%.3s"} {
		args := []any{s}
		if verb == "%T %v" {
			args = append(args, s)
		}
		require.NotContains(t, strings.ToLower(fmt.Sprintf(verb, args...)), "hunter", verb)
		require.NotContains(t, fmt.Sprintf(verb, args...), "68756e", verb)
	}
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", holder, holder, &holder), text)
	require.NotContains(t, fmt.Sprint(map[secret.String]int{s: 1}, []secret.String{s}), text)
	require.NotContains(t, fmt.Errorf("token %w %v", errors.New("x"), s).Error(), text)
	require.Equal(t, "[REDACTED]", s.String())
	require.Equal(t, `secret.String("[REDACTED]")`, fmt.Sprintf("%#v", s))
	require.Equal(t, `"[REDACTED]"`, fmt.Sprintf("%q", s))
}

func TestString_ShowsInNoEncoderOrLog(t *testing.T) {
	s := secret.String(text)
	body, err := json.Marshal(map[string]any{"s": s, "p": &s, "l": []secret.String{s}})
	require.NoError(t, err)
	require.JSONEq(t, `{"s":"[REDACTED]","p":"[REDACTED]","l":["[REDACTED]"]}`, string(body))

	var out strings.Builder
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "s", s)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "s", s)
	require.NotContains(t, out.String(), text)

	core, logs := observer.New(zap.DebugLevel)
	zap.New(core).Info("m", zap.Any("a", s), zap.Stringer("b", s), zap.Reflect("c", s))
	encoded, err := json.Marshal(logs.All()[0].ContextMap())
	require.NoError(t, err)
	require.NotContains(t, string(encoded), text)
}

func TestString_EmptyStaysEmpty(t *testing.T) {
	var s secret.String
	require.Empty(t, s.String())
	require.Empty(t, fmt.Sprint(s))
	body, err := json.Marshal(s)
	require.NoError(t, err)
	require.Equal(t, `""`, string(body))
}

func TestString_RevealsWhatWasRead(t *testing.T) {
	var config struct{ Token secret.String }
	require.NoError(t, json.Unmarshal([]byte(`{"Token":"`+text+`"}`), &config))
	require.Equal(t, text, config.Token.Reveal())
}
