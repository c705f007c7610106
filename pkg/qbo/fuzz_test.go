package qbo_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// seed adds each sample below testdata: what one decoder reads, the others
// have to refuse.
func seed(f *testing.F, add func(body []byte)) {
	f.Helper()
	files, err := filepath.Glob("testdata/*/*.*")
	require.NoError(f, err)
	require.NotEmpty(f, files)
	for _, file := range files {
		body, err := os.ReadFile(file)
		require.NoError(f, err)
		add(body)
	}
}

// checkEntity holds what must be true of any record.
func checkEntity(t *testing.T, e qbo.Entity) {
	t.Helper()
	require.NotEmpty(t, e.Name)
	require.Equal(t, entity.Canonical(e.Name), e.Name)
	require.True(t, json.Valid(e.Raw))
	require.Equal(t, byte('{'), e.Raw[0])
	v := e.Version()
	require.True(t, v >= 0 && v < 1<<53)
	require.Equal(t, e.Deleted, qbo.IsTombstone(v))
	if !e.LastUpdated.IsZero() {
		require.Equal(t, time.UTC, e.LastUpdated.Location())
	}
}

func raws(list []qbo.Entity) []json.RawMessage {
	out := []json.RawMessage{}
	for _, e := range list {
		out = append(out, e.Raw)
	}
	return out
}

func FuzzDecodeCDC(f *testing.F) {
	seed(f, func(body []byte) { f.Add(body) })
	f.Add([]byte(`{"CDCResponse":{"QueryResponse":{"item":{"id":1,"status":"deleted"},"ITEM":[{"Id":"2"}]}},"time":1767225600000}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := qbo.DecodeCDC(body)
		if err != nil {
			checkDecodeError(t, err)
			require.Zero(t, r)
			return
		}
		total := len(r.NoID)
		blocks := []map[string]any{}
		for name, list := range r.Entities {
			total += len(list)
			blocks = append(blocks, map[string]any{name: raws(list)})
			for _, e := range list {
				require.NotEmpty(t, e.ID)
				require.Equal(t, name, e.Name)
				checkEntity(t, e)
			}
		}
		require.Equal(t, r.Total, total, "each object once")
		require.GreaterOrEqual(t, r.Blocks, 0)
		require.Equal(t, total >= 1000, r.Truncated())

		// What was read, written as the API writes it and read again, is the same.
		written := map[string]any{"CDCResponse": []any{map[string]any{"QueryResponse": blocks}}}
		if !r.Time.IsZero() && r.Time.Year() >= 0 && r.Time.Year() <= 9999 {
			written["time"] = r.Time.Format(time.RFC3339Nano)
		}
		again, err := qbo.DecodeCDC(marshal(t, written))
		require.NoError(t, err)
		require.Equal(t, len(r.Entities), len(again.Entities))
		for name, list := range r.Entities {
			require.Equal(t, ids(list), ids(again.Entities[name]))
		}
	})
}

func FuzzDecodeQuery(f *testing.F) {
	seed(f, func(body []byte) { f.Add(body) })
	f.Add([]byte(`{"QueryResponse":{"Invoice":[{"Id":"2","SyncToken":"1","MetaData":{"LastUpdatedTime":"2026-01-01T00:00:00-08:00"}},{"Id":1}],"startPosition":3,"maxResults":2,"totalCount":9},"time":"2026-01-01T00:00:00.000-08:00"}`))
	f.Add([]byte(`{"QueryResponse":{"totalCount":"28"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := qbo.DecodeQuery(body)
		if err != nil {
			checkDecodeError(t, err)
			require.Zero(t, r)
			return
		}
		require.True(t, r.StartPosition >= 0 && r.MaxResults >= 0 && r.TotalCount >= 0)
		byName := map[string]any{"startPosition": r.StartPosition, "maxResults": r.MaxResults, "totalCount": r.TotalCount}
		lists := map[string][]qbo.Entity{}
		for _, e := range r.Entities {
			require.NotEmpty(t, e.ID)
			checkEntity(t, e)
			lists[e.Name] = append(lists[e.Name], e)
			byName[e.Name] = raws(lists[e.Name])
		}
		for _, e := range r.NoID {
			require.Empty(t, e.ID)
		}
		again, err := qbo.DecodeQuery(marshal(t, map[string]any{"QueryResponse": byName}))
		require.NoError(t, err)
		require.Equal(t, ids(r.Entities), ids(again.Entities))
		require.Empty(t, cmp.Diff([]int{r.StartPosition, r.MaxResults, r.TotalCount}, []int{again.StartPosition, again.MaxResults, again.TotalCount}))
	})
}

func FuzzDecodeFault(f *testing.F) {
	seed(f, func(body []byte) { f.Add(400, "30", body) })
	f.Add(429, "Thu, 01 Jan 2026 00:00:00 GMT", []byte(nil))
	f.Add(401, "", []byte(`{"fault":{"error":{"detail":"Token: abc","code":3200}}}`))
	f.Fuzz(func(t *testing.T, status int, after string, body []byte) {
		header := map[string][]string{"Retry-After": {after}, "Date": {"Thu, 01 Jan 2026 00:00:00 GMT"}}
		fault := qbo.DecodeFault(status, header, body)
		require.NotNil(t, fault)
		require.Equal(t, status, fault.Status)
		require.True(t, fault.RetryAfter >= 0 && fault.RetryAfter <= 24*time.Hour)
		shown := fault.Error()
		require.Less(t, len(shown), 64<<10)
		require.NotContains(t, shown, "\n")
		require.False(t, slices.ContainsFunc(strings.FieldsFunc(shown, func(r rune) bool {
			return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r)
		}), func(run string) bool { return len(run) >= 32 }), "no run as long as a token: %s", shown)
		require.Equal(t, status == 401 || has(fault, "3200"), fault.Is(qbo.ErrUnauthorized))
		require.Equal(t, status == 429 || has(fault, "3001"), fault.Is(qbo.ErrThrottled))

		// Written in either JSON spelling and read again, it is the same.
		for _, name := range []string{"Fault", "fault"} {
			errs := []any{}
			for _, e := range fault.Errors {
				errs = append(errs, map[string]string{"Message": e.Message, "Detail": e.Detail, "code": e.Code, "element": e.Element})
			}
			again := qbo.DecodeFault(status, header, marshal(t, map[string]any{name: map[string]any{"Error": errs, "type": fault.Type}}))
			require.Empty(t, cmp.Diff(fault, again))
		}
	})
}

func has(f *qbo.Fault, code string) bool {
	return slices.ContainsFunc(f.Errors, func(e qbo.FaultError) bool { return e.Code == code })
}

func checkDecodeError(t *testing.T, err error) {
	t.Helper()
	var fault *qbo.Fault
	if errors.As(err, &fault) {
		require.Equal(t, 200, fault.Status)
		return
	}
	require.ErrorIs(t, err, qbo.ErrMalformed)
}

func ids(list []qbo.Entity) string {
	var b bytes.Buffer
	for _, e := range list {
		b.WriteString(e.Name + "\x00" + e.ID + "\x00" + e.SyncToken + "\x01")
	}
	return b.String()
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	body, err := json.Marshal(v)
	require.NoError(t, err)
	return body
}
