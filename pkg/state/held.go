package state

import (
	"context"
	_ "embed"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed renew.lua
	renewLua    string
	renewScript = redis.NewScript(renewLua)
)

// held is what a call holds of its realm in Redis: a slot, or its place among the
// waiting. While Redis is away it stays as it is there; when it is back, what was lost is
// noted again, and what is over is taken back.
type held struct {
	limiter   *Limiter
	ctx       context.Context // of the call, for its values
	realm, id string
	began     time.Time

	mu    sync.Mutex
	timer *time.Timer
	over  bool
	// doubt says that Redis may yet do what it was asked and has not answered.
	doubt bool
}

// hold begins to note a call.
func (l *Limiter) hold(ctx context.Context, realm, id string) *held {
	h := &held{limiter: l, ctx: context.WithoutCancel(ctx), realm: realm, id: id, began: time.Now()}
	h.mu.Lock() // until the timer is known
	defer h.mu.Unlock()
	h.timer = time.AfterFunc(renewEvery, h.again)
	return h
}

func (h *held) again() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tell()
}

// giveBack ends the call. doubt says that Redis may yet do what it was asked for it.
func (h *held) giveBack(doubt bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over, h.doubt = true, h.doubt || doubt
	h.tell()
}

// tell tells Redis, once, and plans the next time. After [LimitConfig.Hold] Redis helps
// itself.
func (h *held) tell() {
	ctx, cancel := context.WithTimeout(h.ctx, releaseTimeout)
	defer cancel()
	var err error
	if h.over {
		err = h.forget(ctx)
	} else {
		err = renewScript.Run(ctx, h.limiter.store.db, limitKeys(h.realm)[1:2], h.id, h.limiter.config.Hold.Microseconds()).Err()
	}
	done := h.over && err == nil && !h.doubt
	h.doubt = err != nil || h.doubt && !h.over
	if done || errors.Is(err, redis.ErrClosed) || time.Since(h.began) > h.limiter.config.Hold {
		h.timer.Stop()
		return
	}
	h.timer.Reset(renewEvery)
}

func (h *held) forget(ctx context.Context) error {
	pipe := h.limiter.store.db.Pipeline()
	pipe.ZRem(ctx, ephemeralKey("slot", h.realm), h.id)
	pipe.ZRem(ctx, ephemeralKey("wait", h.realm), h.id)
	_, err := pipe.Exec(ctx)
	return err
}
