package qbo_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// One token for every realm; a real source refreshes it.
type fixed secret.String

func (f fixed) Token(context.Context, string) (secret.String, error) { return secret.String(f), nil }
func (f fixed) Rejected(context.Context, string, secret.String) error {
	return errors.New("there is no other token")
}

func ExampleClient_CDC() {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"CDCResponse":[{"QueryResponse":[
			{"Invoice":[{"Id":"129","SyncToken":"4","MetaData":{"LastUpdatedTime":"2026-11-23T02:00:00-08:00"}},
			            {"Id":"130","status":"Deleted","MetaData":{"LastUpdatedTime":"2026-11-23T02:05:00-08:00"}}]},
			{}]}],"time":"2026-11-23T02:10:00.123-08:00"}`)
	}))
	defer api.Close()

	client, err := qbo.New(qbo.Options{BaseURL: api.URL, Tokens: fixed("token")})
	if err != nil {
		fmt.Println(err)
		return
	}
	asked := []string{"Invoice", "Customer"}
	since := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	result, err := client.CDC(context.Background(), "9130347", asked, since)
	switch {
	case errors.Is(err, qbo.ErrTooOld):
		fmt.Println("read everything by Query")
		return
	case err != nil:
		fmt.Println(err, qbo.Temporary(err))
		return
	}
	for _, e := range result.Entities["Invoice"] {
		fmt.Println(e.Name, e.ID, e.Version(), e.Deleted)
	}
	fmt.Println(result.Complete(asked), result.Truncated(), result.Time)
	// Output:
	// Invoice 129 1795428000000004 false
	// Invoice 130 1795428300999999 true
	// true false 2026-11-23 10:10:00.123 +0000 UTC
}
