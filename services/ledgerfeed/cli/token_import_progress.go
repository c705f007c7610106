package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/tokenimport"
)

// importing is an import under way.
type importing struct {
	c       *importCmd
	p       process
	servers *servers
	bar     *progress // nil for one company
	rescued map[string]bool
	counts  map[tokenimport.Outcome]int
	seen    int
}

// report tells of a company. It is called by one goroutine at a time.
func (r *importing) report(ctx context.Context, res tokenimport.Result) error {
	r.counts[res.Outcome]++
	r.seen++
	if res.Outcome != tokenimport.Failed && res.Outcome != tokenimport.Unstored {
		delete(r.rescued, res.Realm)
	}
	out := importResult{Line: res.Line, Realm: res.Realm, App: res.App, Outcome: res.Outcome}
	if res.Err != nil {
		out.Error = res.Err.Error()
	}
	if res.Outcome == tokenimport.Unstored {
		if err := r.rescue(ctx, res); err != nil {
			return err
		}
		out.Rescued = r.c.Rescue
	}
	if r.bar != nil {
		r.bar.show(r.seen)
	}
	if r.c.JSON {
		return json.NewEncoder(r.p.stdout).Encode(out)
	}
	switch res.Outcome {
	case tokenimport.Failed:
		fmt.Fprintf(r.p.stderr, "line %d: realm %s: %s\n", res.Line, orDash(res.Realm), plain(out.Error))
	case tokenimport.Unstored:
		fmt.Fprintf(r.p.stderr, "line %d: realm %s: %s; it is in %s\n", res.Line, res.Realm, plain(out.Error), r.c.Rescue)
	case tokenimport.Imported:
		if r.c.File == "" {
			fmt.Fprintf(r.p.stdout, "realm %s is connected to the app %s and due for its initial load\n", res.Realm, res.App)
		}
	case tokenimport.Connected:
		if r.c.File == "" {
			fmt.Fprintf(r.p.stdout, "realm %s is connected already, with a newer token than this one\n", res.Realm)
		}
	}
	return nil
}

// rescue writes the token down. If that fails, too, it is tried to be stored for as
// long as the command runs: it is the only one Intuit takes.
func (r *importing) rescue(ctx context.Context, res tokenimport.Result) error {
	err := tokenimport.Rescue(r.c.Rescue, res)
	for err != nil {
		fmt.Fprintf(r.p.stderr, "%s; trying to store it in Redis until this is interrupted\n", plain(err.Error()))
		if serr := r.servers.connections.Connect(ctx, res.Realm, res.App, res.Token); serr == nil {
			r.servers.connections.ScanSoon(ctx, res.Realm)
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		err = tokenimport.Rescue(r.c.Rescue, res)
	}
	return nil
}

// end sums up; err is why the run was broken off, if it was.
func (r *importing) end(ctx context.Context, lines int, err error) error {
	if r.bar != nil {
		r.bar.end()
	}
	if r.c.File != "" && !r.c.JSON {
		fmt.Fprintf(r.p.stdout, "imported %d of %d companies; %d were imported before, %d are connected with a newer token\n",
			r.counts[tokenimport.Imported], lines, r.counts[tokenimport.Skipped], r.counts[tokenimport.Connected])
	}
	if len(r.rescued) == 0 && r.counts[tokenimport.Unstored] == 0 && r.seen > 0 {
		r.forgetRescued()
	}
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted: run it again, what is imported is left out")
	case err != nil:
		if errors.Is(r.servers.store.Ping(ctx), state.ErrUnreachable) {
			return lifecycle.Unreachable("", err)
		}
		return err
	}
	if bad := r.counts[tokenimport.Failed] + r.counts[tokenimport.Unstored]; bad > 0 {
		return fmt.Errorf("%d of %d companies are not imported", bad, lines)
	}
	return nil
}

// forgetRescued deletes the file of which every token is stored now.
func (r *importing) forgetRescued() {
	if err := os.Remove(r.c.Rescue); err != nil && !errors.Is(err, os.ErrNotExist) {
		fmt.Fprintf(r.p.stderr, "%s can be deleted: its tokens are stored (%s)\n", r.c.Rescue, cause(err))
	}
}
