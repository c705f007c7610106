package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
)

type tokenRotateCmd struct {
	consent `embed:""`
	JSON    bool `help:"Print the result as one JSON object."`
}

// Help is the long help of the command.
func (tokenRotateCmd) Help() string {
	return `Encrypts all stored tokens with the first key of LEDGERFEED_CONNECTION_KEYS. To replace a key: put the new one in
front of the old one for every service and restart them, run this, and remove the old key once it says that it
can go. Tokens do not change, and a refresh at the same time wins. Interrupted or killed, run it again: what is
done is left alone.

Exits 0 if the first key encrypts everything, 1 if something is left.

Examples:
  ledgerfeed token rotate --dry-run
  ledgerfeed token rotate --yes`
}

// rotation is the result, in JSON.
type rotation struct {
	FirstKey string            `json:"first_key"`
	Rotated  int               `json:"rotated"`
	Failed   int               `json:"failed"`
	Keys     connection.KeyUse `json:"keys"` // realms by key, afterwards
	// Obsolete are keys of the ring that encrypt nothing any more.
	Obsolete []string `json:"obsolete"`
}

// Run rotates.
func (c *tokenRotateCmd) Run(ctx context.Context, p process) error {
	if err := c.possible(p); err != nil {
		return err
	}
	s, err := openConnections(ctx, p)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	return away(ctx, s, c.rotate(ctx, p, s.connections))
}

func (c *tokenRotateCmd) rotate(ctx context.Context, p process, store *connection.Store) error {
	use, err := store.KeyUse(ctx)
	if err != nil {
		return err
	}
	out := rotation{FirstKey: store.FirstKey(), Keys: use}
	if !c.DryRun {
		if err := c.ask(ctx, p, fmt.Sprintf("encrypt the tokens of %d companies with the key %s?", others(use, out.FirstKey), out.FirstKey)); err != nil {
			return err
		}
		w := &rotating{store: store, stderr: p.stderr, bar: newProgress(p.stderr, others(use, out.FirstKey), "rotated")}
		err := w.run(ctx)
		w.bar.end()
		if err != nil {
			return err
		}
		out.Rotated, out.Failed = w.rotated, w.failed
		// Counted again: a service with the old ring may have stored a token meanwhile.
		if out.Keys, err = store.KeyUse(ctx); err != nil {
			return err
		}
	}
	out.Obsolete = obsolete(store.Keys(), out.Keys)
	if c.JSON {
		err = json.NewEncoder(p.stdout).Encode(out)
	} else {
		out.print(p.stdout)
	}
	if left := others(out.Keys, out.FirstKey); left > 0 && !c.DryRun {
		return errors.Join(err, fmt.Errorf("tokens of %d companies are encrypted with another key than %s: see that every service has it in front, and run it again", left, out.FirstKey))
	}
	return err
}

// rotating is the work under way.
type rotating struct {
	store  *connection.Store
	stderr io.Writer

	mu              sync.Mutex // guards the rest
	bar             *progress
	rotated, failed int
}

func (w *rotating) run(ctx context.Context) error {
	var g errgroup.Group
	g.SetLimit(atOnce)
	err := w.store.Each(ctx, connection.Query{}, func(l connection.Listed) error {
		first := w.store.FirstKey()
		if (l.Key == "" || l.Key == first) && (l.PreviousKey == "" || l.PreviousKey == first) {
			return nil
		}
		g.Go(func() error { w.one(ctx, l.RealmID); return nil })
		return ctx.Err()
	})
	_ = g.Wait() // one returns nothing
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("interrupted after %d companies: run it again", w.rotated)
	}
	return err
}

func (w *rotating) one(ctx context.Context, realm string) {
	got, err := w.store.Rotate(ctx, realm)
	if got == connection.RotatedMeanwhile {
		_, err = w.store.Rotate(ctx, realm)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		if w.failed++; w.failed <= maxNamed {
			fmt.Fprintf(w.stderr, "%s\n", plain(err.Error()))
		}
		return
	}
	w.rotated++
	w.bar.show(w.rotated)
}

func (r rotation) print(w io.Writer) {
	for _, key := range slices.Sorted(maps.Keys(r.Keys)) {
		fmt.Fprintf(w, "%s encrypts tokens of %d companies\n", key, r.Keys[key])
	}
	for _, key := range r.Obsolete {
		fmt.Fprintf(w, "%s encrypts nothing any more: it can go from connection.keys once every service has %s in front\n", key, r.FirstKey)
	}
}

// others is how many companies have something under another key.
func others(use connection.KeyUse, first string) int {
	n := 0
	for key, count := range use {
		if key != first {
			n += count
		}
	}
	return n
}

// obsolete are the keys behind the first that nobody needs.
func obsolete(ring []string, use connection.KeyUse) []string {
	gone := []string{}
	for _, key := range ring[1:] {
		if use[key] == 0 {
			gone = append(gone, key)
		}
	}
	return gone
}
