package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// realmSelection are the flags of what is about some realms or all.
type realmSelection struct {
	Realm []string `placeholder:"ID" help:"Company ids (realmId, comma-separated)."`
	All   bool     `help:"Select all companies that were ever connected."`
}

func (c *realmSelection) validate() error {
	if err := validRealms("--realm", c.Realm...); err != nil {
		return err
	}
	if (len(c.Realm) > 0) == c.All {
		return lifecycle.Usage(errors.New("say which companies: --realm ID, or --all"))
	}
	return nil
}

// realms are those that are meant. One that was never connected is an error.
func (c *realmSelection) realms(ctx context.Context, store *state.Store) ([]string, error) {
	known, err := connection.Realms(ctx, store)
	if err != nil || c.All {
		return known, err
	}
	slices.Sort(c.Realm)
	c.Realm = slices.Compact(c.Realm)
	for _, realm := range c.Realm {
		if !slices.Contains(known, realm) {
			return nil, fmt.Errorf("realm %s: it is not connected; ledgerfeed cursor ls lists those that are", realm)
		}
	}
	return c.Realm, nil
}

// entities makes names canonical that a person gave.
func entities(names []string) ([]string, error) {
	var all []string
	for _, name := range names {
		info, ok := entity.Lookup(name)
		if !ok || !info.Query {
			return nil, lifecycle.Usage(fmt.Errorf("--entity %s: QuickBooks cannot be asked for it; name one as the API does, such as Invoice", name))
		}
		all = append(all, info.Name)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// several says how many there are of something.
func several(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}
