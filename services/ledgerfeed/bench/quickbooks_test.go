package bench_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

// runQuickBooks is an API that costs next to nothing. It answers a Query by ids
// and nothing else: whatever record is asked for is there, an invoice of the
// simulator's with another id, changed in this second. It looks at no token and
// has no limits. The simulator's own work would be most of what is measured.
func runQuickBooks() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	q := &quickBooks{invoice: strings.Split(os.Getenv("BENCH_SAMPLE"), mark)}
	s := &http.Server{Handler: q, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = s.Serve(l) }()
	serving(l.Addr().String())
	untilParentEnds()
	return s.Close()
}

type quickBooks struct {
	invoice []string // what is before, between and after its id and its time
	latency atomic.Int64
	calls   atomic.Int64
}

func (q *quickBooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/bench/calls":
		fmt.Fprint(w, q.calls.Load())
		return
	case "/bench/latency":
		d, err := time.ParseDuration(r.FormValue("is"))
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
		q.latency.Store(int64(d))
		return
	}
	q.calls.Add(1)
	statement := r.URL.Query().Get("query")
	if r.Method == http.MethodPost {
		if body, err := io.ReadAll(r.Body); err == nil {
			statement = string(body)
		}
	}
	quoted := strings.Split(statement, "'")
	if !strings.HasPrefix(statement, "SELECT * FROM Invoice WHERE Id IN (") || len(quoted) < 3 {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if d := time.Duration(q.latency.Load()); d > 0 {
		time.Sleep(d)
	}
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	_, _ = w.Write(q.answer(quoted))
}

// answer takes a statement cut at its quotation marks: every second part is an id.
func (q *quickBooks) answer(quoted []string) []byte {
	now := time.Now().UTC().Format(time.RFC3339)
	n := len(quoted) / 2
	answer := make([]byte, 0, n*(len(q.invoice[0])+len(q.invoice[1])+len(q.invoice[2])+64)+128)
	answer = append(answer, `{"QueryResponse":{"Invoice":[`...)
	for i := 1; i < len(quoted); i += 2 {
		if i > 1 {
			answer = append(answer, ',')
		}
		for _, part := range []string{q.invoice[0], quoted[i], q.invoice[1], now, q.invoice[2]} {
			answer = append(answer, part...)
		}
	}
	return fmt.Appendf(answer, `],"startPosition":1,"maxResults":%d},"time":%q}`, n, now)
}

// mark stands in a sample for its id, and then for its time.
const mark = "@@"

// invoice is one of the simulator's.
func invoice(t *testing.T) string {
	t.Helper()
	sim, err := qbosim.New(qbosim.Options{Seed: 1})
	require.NoError(t, err)
	defer sim.Close()
	sim.AddRealm("1")
	_, err = sim.Create("1", "Customer", nil) // it is to
	require.NoError(t, err)
	ref, err := sim.Create("1", "Invoice", nil)
	require.NoError(t, err)
	var fields map[string]any // encoded in the order of the names: the id first
	require.NoError(t, json.Unmarshal(sim.History(ref)[0].Raw, &fields))
	meta, ok := fields["MetaData"].(map[string]any)
	require.True(t, ok)
	fields["Id"], meta["LastUpdatedTime"] = mark, mark
	raw, err := json.Marshal(fields)
	require.NoError(t, err)
	require.Len(t, strings.Split(string(raw), mark), 3, "%s", raw)
	return string(raw)
}

// books is the other side of runQuickBooks.
type books struct {
	*child
	t      *testing.T
	sample string
}

func startBooks(t *testing.T) *books {
	t.Helper()
	sample := invoice(t)
	return &books{startChild(t, "quickbooks", "BENCH_SAMPLE="+sample), t, sample}
}

func (b *books) url() string { return "http://" + b.says[0] }

// calls are those so far.
func (b *books) calls() int64 {
	b.t.Helper()
	n, err := strconv.ParseInt(b.get("/bench/calls"), 10, 64)
	require.NoError(b.t, err)
	return n
}

// takes is how long each answer takes from now on.
func (b *books) takes(d time.Duration) {
	b.t.Helper()
	b.get("/bench/latency?is=" + url.QueryEscape(d.String()))
}

func (b *books) get(path string) string {
	b.t.Helper()
	resp, err := http.Get(b.url() + path)
	require.NoError(b.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	require.Equal(b.t, http.StatusOK, resp.StatusCode, "%s: %s", path, text)
	return string(text)
}
