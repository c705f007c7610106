package connect_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
)

// send posts a body.
func (p *person) send(path, body string) answer {
	p.b.Helper()
	return p.post(path, func(r *http.Request) {
		r.Header.Set("Accept", "application/json")
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	})
}

func TestImport_OneByTheAPI(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.person()
	_, refresh := b.sim.Connect(realm)
	a := p.send("/realms/"+realm+"/token", `{"refresh_token":" `+refresh.Reveal()+`\n","app":"sandbox"}`)
	require.Equal(t, http.StatusOK, a.status, a.body)
	require.JSONEq(t, `{"realm":"`+realm+`","app":"sandbox","outcome":"imported"}`, a.body)
	c, err := b.connections.Get(t.Context(), realm)
	require.NoError(t, err)
	require.Equal(t, connection.Live, c.State)
	require.NotEqual(t, refresh, c.Token.Refresh, "it was traded for the next one")

	a = p.send("/realms/"+other+"/token", `{"refresh_token":"made-up-secret"}`)
	require.Equal(t, http.StatusUnprocessableEntity, a.status)
	require.Contains(t, a.body, "does not take the token")
	require.NotContains(t, a.body, "made-up-secret")
	a = p.send("/realms/"+realm+"/token", `{"refresh_token":"`+refresh.Reveal()+`"}`)
	require.Equal(t, http.StatusOK, a.status)
	require.Contains(t, a.body, `"outcome":"connected"`, "an older token does no harm")
	for _, body := range []string{"", "{", `{"refresh_token":7}`, `{"refresh_token":""}`, `{"refresh_token":"x","realm":"1"}`} {
		require.Equal(t, http.StatusBadRequest, p.send("/realms/"+realm+"/token", body).status, body)
	}
}

func TestImport_ManyByTheAPI(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, first := b.sim.Connect(realm)
	_, second := b.sim.Connect(other)
	body := "realm,refresh_token\n" + realm + "," + first.Reveal() + "\n7,made-up-secret\nseven,x\n\n{\"realm\":\"" + other + "\",\"refresh_token\":\"" + second.Reveal() + "\"}\n"
	a := b.person().send("/tokens", body)
	require.Equal(t, http.StatusOK, a.status)
	got := map[float64]string{}
	for lines := bufio.NewScanner(bytes.NewReader([]byte(a.body))); lines.Scan(); {
		var line map[string]any
		require.NoError(t, json.Unmarshal(lines.Bytes(), &line))
		require.Contains(t, line, "line", a.body)
		got[line["line"].(float64)] = line["outcome"].(string)
	}
	require.Equal(t, map[float64]string{2: "imported", 3: "failed", 4: "failed", 6: "imported"}, got)
	require.NotContains(t, a.body, "made-up-secret")
	counts, err := b.connections.Counts(t.Context())
	require.NoError(t, err)
	require.Equal(t, 2, counts[connection.Live])
}
