package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
)

var errBroken = errors.New("broken")

// diary notes what happened, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(format string, a ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, a...))
}

func (d *diary) part(name string, drain time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		<-ctx.Done()
		d.note("%s stopping", name)
		time.Sleep(drain) // the bubble's clock
		d.note("%s stopped", name)
		return ctx.Err()
	}
}

func TestGroup_StopsInReverseOrderOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		var g lifecycle.Group
		g.Defer("stream", func(context.Context) error { d.note("stream closed"); return nil })
		g.Go("admin", d.part("admin", time.Second))
		g.Go("ingress", d.part("ingress", 2*time.Second))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		require.NoError(t, g.Run(ctx))
		require.Empty(t, cmp.Diff([]string{
			"ingress stopping", "ingress stopped", "admin stopping", "admin stopped", "stream closed",
		}, d.lines))
	})
}

func TestGroup_OneThatFailsStopsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		var g lifecycle.Group
		g.Go("admin", d.part("admin", 0))
		g.Go("ingress", func(context.Context) error { return errBroken })
		err := g.Run(t.Context())
		require.ErrorIs(t, err, errBroken)
		require.EqualError(t, err, "ingress: broken")
		require.Equal(t, []string{"admin stopping", "admin stopped"}, d.lines)
	})
}

func TestGroup_EndsWhenEveryPartHasEnded(t *testing.T) {
	var d diary
	var g lifecycle.Group
	g.Defer("file", func(context.Context) error { d.note("closed"); return errBroken })
	g.Go("load", func(context.Context) error { d.note("loaded"); return nil })
	require.EqualError(t, g.Run(t.Context()), "file: broken")
	require.Equal(t, []string{"loaded", "closed"}, d.lines)
}

func TestGroup_OneThatHangsIsLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		var d diary
		g := lifecycle.Group{StopTimeout: 10 * time.Second}
		g.Defer("disk", func(ctx context.Context) error { <-release; return nil })
		g.Go("stream", d.part("stream", time.Second))
		g.Go("sink", func(context.Context) error { <-release; return nil })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		started := time.Now()
		require.EqualError(t, g.Run(ctx), "sink: not stopped after 10s\ndisk: not closed after 10s")
		require.Equal(t, []string{"stream stopping", "stream stopped"}, d.lines)
		require.Equal(t, 21*time.Second, time.Since(started))
	})
}

func TestGroup_ClosingHasADeadline(t *testing.T) {
	var g lifecycle.Group
	var has bool
	g.Defer("disk", func(ctx context.Context) error { _, has = ctx.Deadline(); return nil })
	require.NoError(t, g.Run(t.Context()))
	require.True(t, has)
}
