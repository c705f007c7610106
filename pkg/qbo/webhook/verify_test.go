package webhook_test

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// The only vector Intuit published (WebhooksServiceTest of its Java SDK).
const (
	vectorToken     = secret.String("b5771f19b12ddb4bcdb9f08bdc50bc63878a")
	vectorSignature = "JC2GUwciPmRBwEO7WvrRmKqu9tGOKL8FFallocTFi8Q="
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return body
}

func TestVerify_TakesThePublishedVector(t *testing.T) {
	body := read(t, "signed_java_sdk_body.json")
	index, err := webhook.Verify(body, vectorSignature, []secret.String{vectorToken})
	require.NoError(t, err)
	require.Zero(t, index)
	require.Equal(t, vectorSignature, webhook.Sign(body, vectorToken))
}

func TestVerify_AnyChangedByteFails(t *testing.T) {
	body := read(t, "signed_java_sdk_body.json")
	tokens := []secret.String{vectorToken}
	for i := range body {
		changed := bytes.Clone(body)
		changed[i] ^= 1
		_, err := webhook.Verify(changed, vectorSignature, tokens)
		require.ErrorIs(t, err, webhook.ErrSignature, "byte %d", i)
	}
	for name, changed := range map[string][]byte{
		"a byte more":    append(bytes.Clone(body), '\n'),
		"a byte less":    body[:len(body)-1],
		"no body":        nil,
		"other spelling": bytes.Replace(body, []byte(`":"`), []byte(`": "`), 1),
	} {
		_, err := webhook.Verify(changed, vectorSignature, tokens)
		require.ErrorIs(t, err, webhook.ErrSignature, name)
	}
}

func TestVerify_SaysWhichTokenFits(t *testing.T) {
	body := []byte(`[]`)
	tokens := []secret.String{"old", "new", "other app", "new"}
	for _, tt := range []struct {
		name  string
		token secret.String
		want  int
	}{
		{name: "first", token: "old", want: 0},
		{name: "listed twice", token: "new", want: 1},
		{name: "third", token: "other app", want: 2},
	} {
		index, err := webhook.Verify(body, webhook.Sign(body, tt.token), tokens)
		require.NoError(t, err, tt.name)
		require.Equal(t, tt.want, index, tt.name)
	}
	index, err := webhook.Verify(body, webhook.Sign(body, "stranger"), tokens)
	require.ErrorIs(t, err, webhook.ErrSignature)
	require.Equal(t, -1, index)
}

func TestVerify_EmptyTokenNeverFits(t *testing.T) {
	body := []byte(`[]`)
	for _, tokens := range [][]secret.String{nil, {""}, {"", "a"}} {
		_, err := webhook.Verify(body, webhook.Sign(body, ""), tokens)
		require.ErrorIs(t, err, webhook.ErrSignature)
	}
	index, err := webhook.Verify(body, webhook.Sign(body, "a"), []secret.String{"", "a"})
	require.NoError(t, err)
	require.Equal(t, 1, index)
}

func TestVerify_ReadsTheSignatureAsHeadersArrive(t *testing.T) {
	body := []byte(`[]`)
	signature := webhook.Sign(body, "token")
	raw, err := base64.StdEncoding.DecodeString(signature)
	require.NoError(t, err)
	for _, tt := range []struct {
		name      string
		signature string
		want      error
	}{
		{name: "white space around", signature: " \t" + signature + "\r\n"},
		{name: "none", signature: "", want: webhook.ErrNoSignature},
		{name: "only white space", signature: " \n\t ", want: webhook.ErrNoSignature},
		{name: "not base64", signature: "*" + signature[1:], want: webhook.ErrSignature},
		{name: "cut short", signature: signature[:len(signature)-4], want: webhook.ErrSignature},
		{name: "too long", signature: base64.StdEncoding.EncodeToString(append(raw, 0)), want: webhook.ErrSignature},
		{name: "twice", signature: signature + "," + signature, want: webhook.ErrSignature},
		{name: "in hexadecimal", signature: strings.Repeat("ab", 32), want: webhook.ErrSignature},
	} {
		t.Run(tt.name, func(t *testing.T) {
			index, err := webhook.Verify(body, tt.signature, []secret.String{"token"})
			require.ErrorIs(t, err, tt.want)
			if tt.want != nil {
				require.Equal(t, -1, index)
				require.NotContains(t, err.Error(), "token ")
			}
		})
	}
}

// A request on its own must not be told from one after others: the hashes are
// used again, whatever the one before left in them.
func TestVerifier_MayBeUsedAgainAndByMany(t *testing.T) {
	tokens := []secret.String{"old", "", "new"}
	v := webhook.NewVerifier(tokens)
	tokens[2] = "changed by the caller"
	good, long := []byte(`[]`), bytes.Repeat([]byte(`{"a":[1]}`), 10_000)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 50 {
				for _, body := range [][]byte{good, long, nil} {
					for want, token := range map[int]secret.String{0: "old", 2: "new"} {
						if index, err := v.Verify(body, webhook.Sign(body, token)); err != nil || index != want {
							t.Errorf("token %d: %d, %v", want, index, err)
						}
					}
					for _, signature := range []string{webhook.Sign(body, "other"), webhook.Sign(body, ""), webhook.Sign([]byte("x"), "new"), "?", ""} {
						if index, err := v.Verify(body, signature); err == nil || index != -1 {
							t.Errorf("%q passed: %d", signature, index)
						}
					}
				}
			}
		})
	}
	wait.Wait()
}

func TestVerifier_WithoutTokensRefusesAll(t *testing.T) {
	var none *webhook.Verifier
	for name, v := range map[string]*webhook.Verifier{
		"nil": none, "zero": new(webhook.Verifier), "no tokens": webhook.NewVerifier(nil), "only an empty one": webhook.NewVerifier([]secret.String{""}),
	} {
		for _, token := range []secret.String{"", "token"} {
			_, err := v.Verify(nil, webhook.Sign(nil, token))
			require.ErrorIs(t, err, webhook.ErrSignature, name)
		}
		_, err := v.Verify(nil, "")
		require.ErrorIs(t, err, webhook.ErrNoSignature, name)
	}
}
