// Command inventory keeps a stock in step with the invoices of QuickBooks: an
// example of what receives the webhook sink of Ledgerfeed. See README.md.
package main

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

func main() {
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "inventory:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	db, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer db.Close() // waits for the transactions in hand
	app, err := newInventory(ctx, db, os.Getenv("WEBHOOK_SECRET"))
	if err != nil {
		return err
	}
	server := &http.Server{Addr: cmp.Or(os.Getenv("LISTEN"), "127.0.0.1:9000"), Handler: app, ReadTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Shutdown(context.WithoutCancel(ctx)) })
	fmt.Println("inventory listens on", server.Addr)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

//go:embed schema.sql
var schema string

type inventory struct {
	db       *pgxpool.Pool
	verifier *standardwebhooks.Webhook
}

func newInventory(ctx context.Context, db *pgxpool.Pool, secret string) (*inventory, error) {
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil || secret == "" {
		return nil, errors.New("WEBHOOK_SECRET must be whsec_ and base64")
	}
	_, err = db.Exec(ctx, schema)
	return &inventory{db, verifier}, err
}

// ServeHTTP answers 204 once everything in the request is committed. After a 503
// and a 401 Ledgerfeed sends it again; what is answered 422 becomes a dead letter.
func (i *inventory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 16<<20))
	if err != nil {
		http.Error(w, "the body did not arrive", http.StatusServiceUnavailable)
		return
	}
	if err := i.verifier.Verify(body, r.Header); err != nil {
		http.Error(w, "bad signature", http.StatusUnauthorized)
		return
	}
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/cloudevents-batch+json") {
		body = append(append([]byte{'['}, body...), ']')
	}
	var changes []change
	if err := json.Unmarshal(body, &changes); err != nil {
		http.Error(w, "no changes", http.StatusUnprocessableEntity)
		return
	}
	for _, c := range changes {
		switch err := i.apply(r.Context(), c); {
		case errors.Is(err, errUnreadable):
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		case err != nil:
			fmt.Fprintln(os.Stderr, "inventory:", err)
			http.Error(w, "not stored", http.StatusServiceUnavailable)
			return
		}
	}
	w.WriteHeader(http.StatusNoContent)
}
