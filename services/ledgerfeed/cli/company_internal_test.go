package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/audit"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/replay"
)

func TestEncodeNamed_AddsTheCompany(t *testing.T) {
	for _, tt := range []struct {
		name    string
		v       any
		company string
		want    string
	}{
		{"known", struct {
			Realm string `json:"realm"`
		}{"1"}, `A "B" & C`, `{"realm":"1","company":"A \"B\" & C"}`},
		{"unknown", struct {
			Realm string `json:"realm"`
		}{"1"}, "", `{"realm":"1"}`},
		{"empty object", struct{}{}, "A", `{}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			require.NoError(t, encodeNamed(&out, tt.v, tt.company))
			require.Equal(t, tt.want+"\n", out.String())
		})
	}
}

// An audit names the company in its table and in its scope.
func TestWriteAudit_NamesCompanies(t *testing.T) {
	var out bytes.Buffer
	r := audit.Report{Verdicts: []state.Audit{{Realm: "1", Entity: "Invoice", Verdict: "no-gap", Detail: "-"}}}
	require.NoError(t, writeAudit(&out, r, companies{"1": "Alder Works"}))
	require.Regexp(t, `(?m)^REALM .* DETAIL +COMPANY$`, out.String())
	require.Regexp(t, `(?m)^1 +Invoice .* Alder Works$`, out.String())
	require.Contains(t, out.String(), "scope of 1 (Alder Works)")
}

func TestReplay_NamesTheCompany(t *testing.T) {
	c := replayCmd{Realm: "1", Sink: "crm", company: "Alder Works"}
	for _, asJSON := range []bool{false, true} {
		for _, dry := range []bool{false, true} {
			c.JSON, c.DryRun = asJSON, dry
			var out strings.Builder
			require.NoError(t, c.print(process{stdout: &out}, replay.Result{}))
			require.Contains(t, out.String(), "Alder Works")
		}
	}
}
