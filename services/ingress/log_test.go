package ingress_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zapcore"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// I14: tokens, signatures and bodies are in no line, no answer and no metric.
func TestServer_ShowsNoSecrets(t *testing.T) {
	b := setup(t)
	var shown strings.Builder
	var secrets []string
	for i, body := range [][]byte{event("1", "hunter-1"), []byte(`{"a":"hunter-2`), []byte(`[{"type":"hunter-3"}]`)} {
		for _, token := range []secret.String{oldToken, newToken, "token-wrong-55aa", ""} {
			a := b.post(body, token)
			fmt.Fprintln(&shown, a.header, a.body)
			secrets = append(secrets, webhook.Sign(body, token))
		}
		secrets = append(secrets, fmt.Sprint("hunter-", i+1))
	}
	b.proxy.Cut()
	a := b.post(event("1", "hunter-4"), oldToken)
	require.Equal(t, http.StatusServiceUnavailable, a.status)
	fmt.Fprintln(&shown, a.header, a.body)
	secrets = append(secrets, "hunter", "7f3a", "91cc", "02be", "55aa")

	require.GreaterOrEqual(t, b.logs.Len(), 12) // a line for each, wrong signatures in one
	encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "m", NameKey: "n"})
	for _, line := range b.logs.All() {
		text, err := encoder.EncodeEntry(line.Entry, line.Context)
		require.NoError(t, err)
		shown.Write(text.Bytes())
	}
	families, err := b.registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		_, err := expfmt.MetricFamilyToText(&shown, f)
		require.NoError(t, err)
	}
	for _, s := range secrets {
		require.NotContains(t, shown.String(), s)
	}
}

// Strangers can send as many wrong signatures as they like; the operator with a
// wrong token needs one line.
func TestServer_WrongSignaturesAreCountedAndLoggedOnce(t *testing.T) {
	b := setup(t)
	for range 20 {
		require.Equal(t, 401, b.post(event("1", "1"), "wrong").status)
	}
	require.EqualValues(t, 20, b.requests("demo", "bad_signature"))
	lines := b.logs.FilterMessage("notification refused").All()
	require.Len(t, lines, 1)
	require.Equal(t, zapcore.WarnLevel, lines[0].Level)
	require.Equal(t, "demo", lines[0].ContextMap()["app"])
	require.Equal(t, "127.0.0.1", lines[0].ContextMap()["address"])
	require.Empty(t, b.logs.FilterLevelExact(zapcore.ErrorLevel).All())
}
