package state

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// RefusedBy is the server of Intuit's that refused. What one of them answers is no
// evidence about the other: an access token works for up to an hour with keys that are
// wrong by now.
type RefusedBy string

const (
	// RefusedByAPI: the Accounting API.
	RefusedByAPI RefusedBy = "api"
	// RefusedByOAuth: the token endpoint.
	RefusedByOAuth RefusedBy = "oauth"
)

// AppRefusal is what Intuit answered to a realm that it refused as a whole.
type AppRefusal struct {
	By      RefusedBy
	Message string // Intuit's words, without secrets
	TID     string
	// App says that the answer names the app itself (invalid_client): no other realm
	// has to be refused.
	App bool
}

// AppProblem is an app that Intuit refuses: wrong keys, base URL or environment. The
// zero value is none.
type AppProblem struct {
	App     string
	By      RefusedBy
	Since   time.Time
	Last    time.Time // when Intuit last refused
	Realms  int       // that were refused within [AppWindow] of each other
	Message string
	TID     string
}

// Found reports whether there is a problem.
func (p AppProblem) Found() bool { return !p.Since.IsZero() }

const (
	// AppWindow is how far apart refusals of several realms may be to be one problem.
	AppWindow = 15 * time.Minute
	// appRealms is how many realms must be refused, and none answered meanwhile. One
	// realm alone says nothing about its app.
	appRealms = 2
	// appKept is how long a problem lasts of which nobody hears any more.
	appKept = 24 * time.Hour
)

var (
	//go:embed app_refused.lua
	appRefusedLua    string
	appRefusedScript = redis.NewScript(ClockLua + appRefusedLua)
	//go:embed app_probe.lua
	appProbeLua    string
	appProbeScript = redis.NewScript(ClockLua + appProbeLua)
)

const appProblemsKey = ephemeral + "appproblems:{all}"

func appKeys(app string, by RefusedBy) []string {
	return []string{ephemeralKey("apprefused", app) + ":" + string(by), ephemeralKey("appproblem", app) + ":" + string(by)}
}

// NoteRefused notes that Intuit refused a realm of an app as a whole, and reports whether
// the app is the problem: two realms were refused within [AppWindow], and no realm was
// answered between them. Do not note a realm that is known to be refused.
func (s *Store) NoteRefused(ctx context.Context, app, realm string, r AppRefusal) (bool, error) {
	enough := appRealms
	if r.App {
		enough = 1
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	found, err := appRefusedScript.Run(ctx, s.db, appKeys(app, r.By), realm, AppWindow.Milliseconds(), enough,
		r.Message, r.TID, s.ClockArg(), appKept.Milliseconds()).Bool()
	if err != nil {
		return false, fmt.Errorf("record a refusal of app %s: %w", app, err)
	}
	if found {
		// For those who look for problems. Who knows the app finds it without this.
		pipe := s.db.Pipeline()
		pipe.SAdd(ctx, appProblemsKey, app)
		pipe.PExpire(ctx, appProblemsKey, appKept)
		if _, err := pipe.Exec(ctx); err != nil {
			return true, fmt.Errorf("record the problem of app %s: %w", app, err)
		}
	}
	return found, nil
}

// NoteAnswered notes that the server answered some realm of an app: the app is not the
// problem, and what was refused before counts no more. It reports whether there was one.
func (s *Store) NoteAnswered(ctx context.Context, app string, by RefusedBy) (bool, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	keys := appKeys(app, by)
	pipe := s.db.TxPipeline()
	ended := pipe.Del(ctx, keys[1])
	pipe.Del(ctx, keys[0])
	if _, err := pipe.Exec(ctx); err != nil {
		return false, fmt.Errorf("record an answer to app %s: %w", app, err)
	}
	return ended.Val() > 0, nil
}

// AppProblem returns the problem of an app, that of the token endpoint first; the zero
// value for none.
func (s *Store) AppProblem(ctx context.Context, app string) (AppProblem, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	order := []RefusedBy{RefusedByOAuth, RefusedByAPI}
	pipe := s.db.Pipeline()
	fields := make([]*redis.MapStringStringCmd, len(order))
	realms := make([]*redis.IntCmd, len(order))
	for i, by := range order {
		keys := appKeys(app, by)
		realms[i], fields[i] = pipe.ZCard(ctx, keys[0]), pipe.HGetAll(ctx, keys[1])
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return AppProblem{}, fmt.Errorf("read the problem of app %s: %w", app, err)
	}
	for i, by := range order {
		f := fields[i].Val()
		since, _ := strconv.ParseInt(f["since"], 10, 64) // nothing: none
		if since == 0 {
			continue
		}
		last, _ := strconv.ParseInt(f["last"], 10, 64)
		return AppProblem{
			App: app, By: by, Since: fromMillis(since), Last: fromMillis(last),
			Realms: int(realms[i].Val()), Message: f["message"], TID: f["tid"],
		}, nil
	}
	return AppProblem{}, nil
}

// RefusedRealms are the realms of an app that a server refused since it last answered
// one, up to 1,000, the latest last.
func (s *Store) RefusedRealms(ctx context.Context, app string, by RefusedBy) ([]string, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	realms, err := s.db.ZRange(ctx, appKeys(app, by)[0], 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("read the refused realms of app %s: %w", app, err)
	}
	return realms, nil
}

// AppProblems are the problems of all apps.
func (s *Store) AppProblems(ctx context.Context) ([]AppProblem, error) {
	bounded, cancel := s.bound(ctx)
	defer cancel()
	apps, err := s.db.SMembers(bounded, appProblemsKey).Result()
	if err != nil {
		return nil, fmt.Errorf("list the apps with problems: %w", err)
	}
	slices.Sort(apps)
	var all []AppProblem
	for _, app := range apps {
		p, err := s.AppProblem(ctx, app)
		if err != nil {
			return nil, err
		}
		if p.Found() {
			all = append(all, p)
		}
	}
	return all, nil
}

// ClaimAppProbe reports whether the next call that finds out whether an app's problem is
// over is due and the caller's. The one after it is due after wait.
func (s *Store) ClaimAppProbe(ctx context.Context, p AppProblem, wait time.Duration) (bool, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	mine, err := appProbeScript.Run(ctx, s.db, appKeys(p.App, p.By)[1:], wait.Milliseconds(), s.ClockArg()).Bool()
	if err != nil {
		return false, fmt.Errorf("claim the probe of app %s: %w", p.App, err)
	}
	return mine, nil
}
