package telemetry_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

func TestNewLogger_WritesOneObjectALine(t *testing.T) {
	var out bytes.Buffer
	log, err := telemetry.NewLogger(telemetry.LogConfig{}, &out)
	require.NoError(t, err)
	log.Debug("not shown")
	log.Named("ingress").Info("notification stored",
		telemetry.Realm("123"), telemetry.Took(1500*time.Millisecond), telemetry.Count(3), telemetry.Error(errors.New("cause")))
	var got map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &got))
	_, err = time.Parse(time.RFC3339Nano, got["time"].(string))
	require.NoError(t, err)
	delete(got, "time")
	require.Empty(t, cmp.Diff(map[string]any{
		"level": "info", "component": "ingress", "message": "notification stored",
		"realm_id": "123", "took": "1.5s", "count": 3.0, "error": "cause",
	}, got))
}

func TestNewLogger_ConsoleIsForPeople(t *testing.T) {
	var out bytes.Buffer
	log, err := telemetry.NewLogger(telemetry.LogConfig{Level: "debug", Format: "console"}, &out)
	require.NoError(t, err)
	log.Debug("shown", telemetry.Sink("postgres"))
	require.Regexp(t, `^\d\d:\d\d:\d\d\.\d{3}\tdebug\tshown\t\{"sink": "postgres"\}\n$`, out.String())
}

func TestLogConfig_ValidateNamesFieldAndValue(t *testing.T) {
	require.NoError(t, telemetry.DefaultLogConfig().Validate())
	for _, level := range []string{"debug", "info", "warn", "error"} {
		require.NoError(t, telemetry.LogConfig{Level: level, Format: "console"}.Validate())
	}
	require.EqualError(t, telemetry.LogConfig{Level: "loud", Format: "json"}.Validate(), `log.level is "loud", want debug, info, warn or error`)
	require.EqualError(t, telemetry.LogConfig{Level: "info", Format: "xml"}.Validate(), `log.format is "xml", want json or console`)
	_, err := telemetry.NewLogger(telemetry.LogConfig{Level: "loud"}, &bytes.Buffer{})
	require.Error(t, err)
}
