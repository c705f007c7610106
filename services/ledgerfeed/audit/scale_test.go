package audit_test

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/audit"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
)

// The long form: make scale.
var scaleRecords = flag.Int("scale.records", 50_000, "how many records TestScale_MemoryOfAnAudit compares")

var (
	scaleBase = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	scaleFrom = regexp.MustCompile(`LastUpdatedTime >= '([^']+)'`)
	scalePage = regexp.MustCompile(`STARTPOSITION (\d+) MAXRESULTS (\d+)`)
)

// generated is both sides, made when they are asked for: QuickBooks has n records, one a
// second, the sink another as well, one at an older version, and lacks one.
type generated struct{ n int }

func (g generated) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query, now := r.URL.Query().Get("query"), time.Now().UTC().Format(time.RFC3339)
	var out strings.Builder
	page := scalePage.FindStringSubmatch(query)
	switch {
	case strings.HasPrefix(query, "SELECT COUNT(*)"):
		fmt.Fprintf(&out, `"totalCount":%d`, g.n)
	case page == nil: // by id: there is no such record
	default:
		start, _ := strconv.Atoi(page[1])
		most, _ := strconv.Atoi(page[2])
		from := start - 1
		if m := scaleFrom.FindStringSubmatch(query); m != nil {
			at, _ := time.Parse(time.RFC3339, m[1])
			from += int(at.Sub(scaleBase) / time.Second)
		}
		out.WriteString(`"TimeActivity":[`)
		for i := from; i < min(from+most, g.n); i++ {
			if i > from {
				out.WriteByte(',')
			}
			fmt.Fprintf(&out, `{"Id":"%d","SyncToken":"0","MetaData":{"LastUpdatedTime":%q}}`, i, scaleBase.Add(time.Duration(i)*time.Second).Format(time.RFC3339))
		}
		out.WriteByte(']')
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"QueryResponse":{%s},"time":%q}`, out.String(), now)
}

const (
	scaleMissing = 17
	scaleStale   = 23
)

func (g generated) row(id string) (sink.Row, bool) {
	i, _ := strconv.Atoi(id)
	version := (scaleBase.Unix() + int64(i)) * 1_000_000
	if i == scaleStale {
		version--
	}
	return sink.Row{Version: version}, i != scaleMissing
}

func (g generated) Alive(context.Context, string, string) (int, error) { return g.n, nil }

func (g generated) Versions(_ context.Context, _, _ string, ids []string) (map[string]sink.Row, error) {
	held := map[string]sink.Row{}
	for _, id := range ids {
		if row, ok := g.row(id); ok {
			held[id] = row
		}
	}
	return held, nil
}

func (g generated) Each(_ context.Context, _, _ string, visit func(string, sink.Row) error) error {
	for i := range g.n + 1 {
		id := strconv.Itoa(i)
		if row, ok := g.row(id); ok {
			if err := visit(id, row); err != nil {
				return err
			}
		}
	}
	return nil
}

// Documents are none: the documents are not compared.
func (g generated) Documents(context.Context, string, string, []string) (map[string]string, error) {
	return map[string]string{}, nil
}

func (g generated) KeepAudit(context.Context, postgres.Audit) error { return nil }

type anyToken struct{}

func (anyToken) Token(context.Context, string) (secret.String, error)  { return "a", nil }
func (anyToken) Rejected(context.Context, string, secret.String) error { return nil }

// An audit of a large realm holds hashes of ids and the differences, not both sides.
func TestScale_MemoryOfAnAudit(t *testing.T) {
	g := generated{*scaleRecords}
	api := httptest.NewServer(g)
	t.Cleanup(api.Close)
	client, err := qbo.New(qbo.Options{BaseURL: api.URL, Tokens: anyToken{}})
	require.NoError(t, err)
	store, err := state.Open(t.Context(), state.Options{Config: state.Config{URL: secret.String(devtest.Redis(t))}})
	require.NoError(t, err)
	t.Cleanup(func() { store.Close() })

	var peak uint64
	done := make(chan struct{})
	var sampling sync.WaitGroup
	sampling.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		for {
			metrics.Read(sample)
			peak = max(peak, sample[0].Value.Uint64())
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	})
	began := time.Now()
	report, err := audit.Run(t.Context(), audit.Options{
		State: store, QBO: client, Table: g, Sink: "postgres", Realms: []string{realm}, Entities: []string{"TimeActivity"},
		Settle: time.Millisecond,
	})
	close(done)
	sampling.Wait()
	require.NoError(t, err)
	v := report.Verdicts[0]
	require.Equal(t, []int{g.n, 1, 1, 1}, []int{v.Records, v.Missing, v.Stale, v.Extra}, "%+v", v)
	t.Logf("%d records in %s, %d calls, peak heap %d MiB", g.n, time.Since(began).Round(time.Millisecond), v.Calls, peak>>20)
	require.Less(t, peak, uint64(256<<20))
}
