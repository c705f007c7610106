package tokenimport_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/tokenimport"
)

func TestParse_ReadsWhatPeopleHave(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"CSV":                  "1,one\n2,two\n",
		"with an app":          "1,one,books\n2,two,books\n",
		"a heading":            "realm,refresh_token\n1,one\n2,two",
		"Intuit's spelling":    "realmId;x\n",
		"another order":        "\ufeffRefresh Token,realmId\r\none,1\r\ntwo,2\r\n",
		"quotes and comments":  "# companies\n\n\"1\",\"one\"\n 2 , two \n",
		"JSON lines":           `{"realm":"1","refresh_token":"one"}` + "\n" + `{"realm":"2","refresh_token":"two","app":"books"}`,
		"JSON with other keys": `{"realm":"1","refresh_token":"one","x":1}`,
	} {
		t.Run(name, func(t *testing.T) {
			lines, err := tokenimport.Parse(strings.NewReader(text))
			require.NoError(t, err)
			if name == "Intuit's spelling" || name == "JSON with other keys" {
				require.Len(t, lines, 1)
				require.Error(t, lines[0].Err)
				return
			}
			require.Len(t, lines, 2)
			for i, want := range []string{"one", "two"} {
				require.NoError(t, lines[i].Err)
				require.Equal(t, fmt.Sprint(i+1), lines[i].Realm)
				require.Equal(t, want, lines[i].Refresh.Reveal())
			}
		})
	}
}

func TestParse_NamesTheLineAndNotTheToken(t *testing.T) {
	t.Parallel()
	lines, err := tokenimport.Parse(strings.NewReader(strings.Join([]string{
		"1,hush-1", "x,hush-2", "2", "3,", `4,"hush-3`, "1,hush-4", "a,b,c,d", `{"realm":5}`, `{"realm":"6","refresh_token":"hush-5"} x`, "7,hush-6",
	}, "\n")))
	require.NoError(t, err)
	require.Len(t, lines, 10)
	for i, want := range []string{"", "digits only", "no CSV", "token is empty", "no CSV", "on line 1 already", "no CSV", "no JSON object", "no JSON object", ""} {
		require.Equal(t, i+1, lines[i].N)
		if want == "" {
			require.NoError(t, lines[i].Err)
			continue
		}
		require.ErrorContains(t, lines[i].Err, want)
		require.NotContains(t, lines[i].Err.Error(), "hush")
	}
	_, err = tokenimport.Parse(strings.NewReader(strings.Repeat("x", 100_000)))
	require.ErrorContains(t, err, "longer than")
}

func FuzzParse(f *testing.F) {
	f.Add("1,one\n2,two")
	f.Add(`{"realm":"1","refresh_token":"one"}`)
	f.Add("realm,token\n\"")
	f.Fuzz(func(t *testing.T, text string) {
		lines, err := tokenimport.Parse(strings.NewReader(text))
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, l := range lines {
			if l.Err == nil && (l.Realm == "" || l.Refresh == "" || seen[l.Realm]) {
				t.Errorf("line %d counts as good: %q", l.N, l.Realm)
			}
			if l.Err == nil {
				seen[l.Realm] = true
			}
		}
	})
}

func TestDone_GoesOnAfterAKill(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.done")
	line := tokenimport.Line{Realm: "1", Refresh: "hush"}
	d, err := tokenimport.ReadDone(path)
	require.NoError(t, err)
	require.False(t, d.Has(line))
	// The last line of a process that was killed may be torn.
	require.NoError(t, os.WriteFile(path, []byte("1 torn"), 0o600))
	d, err = tokenimport.OpenDone(path)
	require.NoError(t, err)
	require.False(t, d.Has(line))
	require.NoError(t, d.Add(line))
	require.NoError(t, d.Close())

	d, err = tokenimport.ReadDone(path)
	require.NoError(t, err)
	require.True(t, d.Has(line))
	line.Refresh = "another"
	require.False(t, d.Has(line), "a newer token is imported")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NotContains(t, string(text), "hush")
}

func TestRescue_IsWhereTheNextRunBegins(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "rescued")
	lines := []tokenimport.Line{{N: 1, Realm: "1", Refresh: "old"}, {N: 2, Realm: "2", Refresh: "two"}}
	same, rescued, err := tokenimport.WithRescued(lines, path)
	require.NoError(t, err)
	require.Empty(t, rescued)
	require.Equal(t, lines, same)

	for _, r := range []tokenimport.Result{
		{Realm: "1", App: "books", Token: qbo.Token{Refresh: "new"}}, {Realm: "1", App: "books", Token: qbo.Token{Refresh: "newer"}}, {Realm: "3", App: "books", Token: qbo.Token{Refresh: "three"}},
	} {
		require.NoError(t, tokenimport.Rescue(path, r))
	}
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	all, rescued, err := tokenimport.WithRescued(lines, path)
	require.NoError(t, err)
	require.Equal(t, map[string]bool{"1": true, "3": true}, rescued)
	require.Len(t, all, 3)
	require.Equal(t, "newer", all[0].Refresh.Reveal())
	require.Equal(t, "two", all[1].Refresh.Reveal())
	require.Equal(t, tokenimport.Line{Realm: "3", Refresh: "three", App: "books"}, all[2])
}
