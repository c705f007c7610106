package qbosim_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

// journaled are options whose simulator can be opened again.
func journaled(t *testing.T, edit ...func(*qbosim.Options)) qbosim.Options {
	o := qbosim.Options{
		Seed: 5, VerifierToken: "verifier", ClientID: "client", ClientSecret: "secret", RetryScale: 0.0001,
		Journal: filepath.Join(t.TempDir(), "quickbooks.jsonl"),
	}
	for _, e := range edit {
		e(&o)
	}
	return o
}

func open(t *testing.T, o qbosim.Options) *qbosim.Sim {
	t.Helper()
	sim, err := qbosim.New(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, sim.Close()) })
	return sim
}

// all is everything a simulator knows of a realm's records.
func all(sim *qbosim.Sim, realm string) map[qbosim.Ref][]qbosim.State {
	known := map[qbosim.Ref][]qbosim.State{}
	for ref := range sim.Truth(realm) {
		known[ref] = sim.History(ref)
	}
	return known
}

func TestJournal_KeepsRecordsAndGoesOnWithTheSteps(t *testing.T) {
	t.Parallel()
	clock := newClock()
	o := journaled(t, func(o *qbosim.Options) { o.Now = clock.Now })
	step := func(sim *qbosim.Sim, n int) {
		for range n {
			_, err := sim.Step(realm)
			require.NoError(t, err)
			clock.Advance(time.Second)
		}
	}
	first := open(t, o)
	first.AddRealm(realm)
	first.AddRealm(other)
	step(first, 200)
	require.NoError(t, first.Close())
	_, err := first.Step(realm)
	require.ErrorContains(t, err, "closed")

	second := open(t, o)
	require.Equal(t, []string{realm, other}, second.Realms())
	require.Empty(t, cmp.Diff(all(first, realm), all(second, realm)))
	step(second, 200)

	clock.Advance(-400 * time.Second)
	whole := open(t, qbosim.Options{Seed: o.Seed, Now: clock.Now})
	whole.AddRealm(realm)
	step(whole, 400)
	require.Empty(t, cmp.Diff(all(whole, realm), all(second, realm)), "a restart in the middle changes nothing")
}

func TestJournal_KeepsTokens(t *testing.T) {
	t.Parallel()
	o := journaled(t)
	b := &bundle{T: t, clock: newClock(), Sim: open(t, o)}
	b.AddRealm(realm)
	b.AddRealm(other)
	b.serve()
	revoked := b.exchange(b.Authorize(other))
	b.RevokeRealm(other)
	first := b.exchange(b.Authorize(realm))
	second := b.refresh(first.RefreshToken)
	expired := second.AccessToken
	b.ExpireAccess(realm)
	third := b.refresh(second.RefreshToken)
	b.server.Close()
	require.NoError(t, b.Close())

	b.Sim = open(t, o)
	b.serve()
	require.Equal(t, 401, b.statusWith(expired))
	require.Equal(t, 200, b.statusWith(third.AccessToken))
	require.Equal(t, "invalid_grant", b.refresh(first.RefreshToken).Error, "the old one stays replaced")
	require.Equal(t, 1, b.Stats().RefreshReplays)
	require.Equal(t, "invalid_grant", b.refresh(revoked.RefreshToken).Error)
	fourth := b.refresh(third.RefreshToken)
	require.Equal(t, 200, fourth.status)
	for _, old := range []tokenAnswer{first, second, third, revoked} {
		require.NotEqual(t, old.AccessToken, fourth.AccessToken, "no token is issued twice")
		require.NotEqual(t, old.RefreshToken, fourth.RefreshToken)
	}
}

func TestJournal_KeepsCodesAndTheirUse(t *testing.T) {
	t.Parallel()
	o := journaled(t)
	first := open(t, o)
	first.AddRealm(realm)
	code := first.Authorize(realm)
	require.NoError(t, first.Close())

	b := &bundle{T: t, clock: newClock(), Sim: open(t, o)}
	b.serve()
	got := b.exchange(code)
	require.Equal(t, 200, got.status)
	require.Equal(t, "invalid_grant", b.exchange(code).Error)
	b.server.Close()
	require.NoError(t, b.Close())

	b.Sim = open(t, o)
	b.serve()
	require.Equal(t, "invalid_grant", b.exchange(code).Error)
	require.Equal(t, 200, b.refresh(got.RefreshToken).status)
}

func TestJournal_KeepsWebhooksUntilAcknowledged(t *testing.T) {
	t.Parallel()
	o := journaled(t, func(o *qbosim.Options) { o.RetryScale = 1 })
	// session goes on from the journal, makes records, and ends when the app
	// has acknowledged as many deliveries, or all.
	session := func(deliveries int, make ...string) []string {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		a := newApp(t, func(n int) int {
			if n < deliveries {
				return 200
			}
			cancel()
			return 500
		})
		o.WebhookURL = a.server.URL
		sim := open(t, o)
		if len(sim.Realms()) == 0 {
			sim.AddRealm(realm)
			sim.Connect(realm)
		}
		for _, name := range make {
			_, err := sim.Create(realm, name, nil)
			require.NoError(t, err)
		}
		if err := sim.FlushWebhooks(ctx); err != nil {
			require.ErrorIs(t, err, context.Canceled)
		}
		require.NoError(t, sim.Close())
		posts := a.got()
		var acknowledged []string
		for _, p := range posts[:min(deliveries, len(posts))] {
			n, err := webhook.Parse(p.Body)
			require.NoError(t, err)
			for _, e := range n.Events {
				acknowledged = append(acknowledged, e.Entity+" "+e.EntityID)
			}
		}
		return acknowledged
	}
	items := slices.Repeat([]string{"Item"}, 25)
	var want, got []string
	for n := range items {
		want = append(want, fmt.Sprintf("Item %d", n+1))
	}
	got = append(got, session(1, items...)...)
	require.Equal(t, want[:20], got)
	more := session(1, slices.Repeat([]string{"Bill"}, 25)...)
	require.Len(t, more, 20)
	got = append(got, more...)
	got = append(got, session(9)...)
	for n := range 25 {
		want = append(want, fmt.Sprintf("Bill %d", n+1))
	}
	require.Equal(t, want, got, "each is acknowledged once")
	require.Empty(t, session(9))
}

func TestJournal_DropsATornLastLine(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, torn string }{
		{"half a line", `{"realm":"9341452001","at":"2026-11-`},
		{"a line of rubbish", "\x00\x00\x00\n"},
		{"a whole line without its end", `{"realm":"77","added":true}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := journaled(t)
			first := open(t, o)
			first.AddRealm(realm)
			_, err := first.Create(realm, "Bill", nil)
			require.NoError(t, err)
			require.NoError(t, first.Close())
			appendTo(t, o.Journal, tt.torn)

			second := open(t, o)
			require.Equal(t, []string{realm}, second.Realms())
			require.Empty(t, cmp.Diff(all(first, realm), all(second, realm)))
			_, err = second.Create(realm, "Bill", nil)
			require.NoError(t, err)
			require.NoError(t, second.Close())
			require.Empty(t, cmp.Diff(all(second, realm), all(open(t, o), realm)), "what follows is not glued to it")
		})
	}
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = file.WriteString(text)
	require.NoError(t, err)
	require.NoError(t, file.Close())
}

func TestJournal_RefusesWhatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{
		{"rubbish in the middle", "{\"journal\":1}\nrubbish\n{\"realm\":\"1\",\"added\":true}\n", "line 2"},
		{"another version", "{\"journal\":2}\n{\"realm\":\"1\",\"added\":true}\n", "no journal of version 1"},
		{"another file", "{\"name\":\"x\"}\n{\"name\":\"y\"}\n", "no journal of version 1"},
		{"a realm that was never made", "{\"journal\":1}\n{\"realm\":\"1\",\"revoked\":true}\n", "unknown realm"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := journaled(t)
			require.NoError(t, os.WriteFile(o.Journal, []byte(tt.text), 0o600))
			_, err := qbosim.New(o)
			require.ErrorContains(t, err, tt.want)
			kept, err := os.ReadFile(o.Journal)
			require.NoError(t, err)
			require.Equal(t, tt.text, string(kept), "a refused file stays as it is")
		})
	}
	_, err := qbosim.New(qbosim.Options{Journal: t.TempDir()})
	require.Error(t, err)
}

// crashEnv names the journal in the process that is going to be killed.
const crashEnv = "QBOSIM_CRASH_JOURNAL"

// TestJournal_SurvivesKill starts this test binary again, which changes
// records without end and prints each one once it shows; kills it; and finds
// everything printed in the journal.
func TestJournal_SurvivesKill(t *testing.T) {
	if path := os.Getenv(crashEnv); path != "" {
		stepForEver(t, path)
		return
	}
	t.Parallel()
	o := journaled(t)
	var printed []string
	for range 3 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestJournal_SurvivesKill$")
		cmd.Env = append(os.Environ(), crashEnv+"="+o.Journal)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			printed = append(printed, lines.Text())
			if n == 300 {
				require.NoError(t, cmd.Process.Kill())
			}
		}
		require.Error(t, cmd.Wait())
	}
	printed = printed[:len(printed)-1] // may be torn itself

	sim := open(t, o)
	have := map[string]bool{}
	var versions int
	for ref, states := range all(sim, realm) {
		for _, s := range states {
			versions++
			have[fmt.Sprintf("%s %s %d", ref.Entity, ref.ID, s.Version)] = true
		}
	}
	for _, line := range printed {
		if strings.Count(line, " ") == 2 {
			require.True(t, have[line], "%q is lost", line)
		}
	}
	require.GreaterOrEqual(t, versions, 900)
	whole := open(t, qbosim.Options{Seed: o.Seed})
	whole.AddRealm(realm)
	for range 500 {
		_, err := whole.Step(realm)
		require.NoError(t, err)
	}
	for ref, state := range whole.Truth(realm) {
		var want, got fieldsWithoutTime
		require.NoError(t, json.Unmarshal(whole.History(ref)[0].Raw, &want))
		require.NoError(t, json.Unmarshal(sim.History(ref)[0].Raw, &got), "%v %v", ref, state)
		require.Equal(t, want, got, "kills change nothing in what is drawn")
	}
}

type fieldsWithoutTime struct {
	ID                                          string `json:"Id"`
	DisplayName, Name, DocNumber, PaymentRefNum string
	TotalAmt, UnitPrice, HourlyRate             float64
}

func stepForEver(t *testing.T, path string) {
	sim, err := qbosim.New(qbosim.Options{Seed: 5, Journal: path})
	require.NoError(t, err)
	sim.AddRealm(realm)
	for {
		ref, err := sim.Step(realm)
		require.NoError(t, err)
		fmt.Printf("%s %s %d\n", ref.Entity, ref.ID, sim.Truth(realm)[ref].Version)
	}
}
