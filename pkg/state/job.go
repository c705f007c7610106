package state

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// JobState is how far a scan is that somebody asked for.
type JobState string

// The states, in the order a job goes through them; the last three are ends.
const (
	JobQueued    JobState = "queued"
	JobRunning   JobState = "running"
	JobVerifying JobState = "verifying" // all is read; what was missing is being delivered
	JobDone      JobState = "done"
	JobFailed    JobState = "failed"
	JobCancelled JobState = "cancelled"
)

// Over reports whether nothing more will come of it.
func (s JobState) Over() bool { return s == JobDone || s == JobFailed || s == JobCancelled }

// jobKept is how long the end of a job can be looked up.
const jobKept = 7 * 24 * time.Hour

// jobClaimMost is how far ahead a claim can end: one that ends later was made by a clock
// that was ahead, and holds nobody off.
const jobClaimMost = 24 * time.Hour

// ErrNoJob: nobody has asked for a scan of the realm, or not lately.
var ErrNoJob = errors.New("no scan was asked for")

// Job is a scan of a realm that somebody asked for, or the first load of one. A realm
// has one at a time.
type Job struct {
	Realm string `json:"realm"`
	// Entities to scan; none means all.
	Entities []string `json:"entities,omitempty"`
	// Load reads everything from the beginning, not from the cursors.
	Load bool `json:"load,omitempty"`
	// By is who asked, in words.
	By        string      `json:"by,omitempty"`
	State     JobState    `json:"state"`
	Requested time.Time   `json:"requested"`
	Started   time.Time   `json:"started,omitzero"`
	Updated   time.Time   `json:"updated,omitzero"`
	Ended     time.Time   `json:"ended,omitzero"`
	Error     string      `json:"error,omitempty"`
	Note      string      `json:"note,omitempty"` // what was left out, and why
	Progress  JobProgress `json:"progress"`
}

// JobProgress is what a job has done so far.
type JobProgress struct {
	Entities     int `json:"entities"` // to look at
	EntitiesDone int `json:"entities_done"`
	Records      int `json:"records"` // seen
	// Expected is how many records there are to see, as far as is known; it grows
	// while the entities are begun.
	Expected int `json:"expected,omitempty"`
	Missing  int `json:"missing"` // of them some sink lacked
	Calls    int `json:"calls"`
	// Resumed are the records an earlier attempt had dealt with; they are not read
	// again.
	Resumed bool `json:"resumed,omitempty"`
	// Incomplete are entities that could not be read as a whole.
	Incomplete []string `json:"incomplete,omitempty"`
	// Refused are entities that QuickBooks refuses in this company.
	Refused []string `json:"refused,omitempty"`
}

// Rate is records a second since the job was started; 0 if there is none yet.
func (j Job) Rate(now time.Time) float64 {
	if j.State.Over() && !j.Ended.IsZero() {
		now = j.Ended
	}
	took := now.Sub(j.Started).Seconds()
	if j.Started.IsZero() || took <= 0 {
		return 0
	}
	return float64(j.Progress.Records) / took
}

// Left is how long a running job will take, as far as can be told; 0 if it cannot.
func (j Job) Left(now time.Time) time.Duration {
	rate := j.Rate(now)
	left := j.Progress.Expected - j.Progress.Records
	if j.State != JobRunning || rate == 0 || left <= 0 {
		return 0
	}
	return time.Duration(float64(left) / rate * float64(time.Second)).Round(time.Second)
}

const jobsKey = durable + "jobs:{jobs}"

var (
	//go:embed job_claim.lua
	jobClaimLua    string
	jobClaimScript = redis.NewScript(ClockLua + jobClaimLua)
	//go:embed job_ask.lua
	jobAskLua    string
	jobAskScript = redis.NewScript(jobAskLua)
)

// Ask asks for a scan of a realm by any reconciler. If one is under way for it, or
// waits, that one is returned and false: cancel it, or wait for it.
func (s *Store) Ask(ctx context.Context, j Job) (Job, bool, error) {
	return s.ask(ctx, j, 0)
}

// Track is Ask by somebody who runs the job himself, and has it claimed for that time.
func (s *Store) Track(ctx context.Context, j Job, visibility time.Duration) (Job, bool, error) {
	return s.ask(ctx, j, visibility)
}

func (s *Store) ask(ctx context.Context, j Job, visibility time.Duration) (Job, bool, error) {
	now, err := s.Now(ctx)
	if err != nil {
		return j, false, err
	}
	j.State, j.Requested = JobQueued, now.UTC().Truncate(time.Millisecond)
	j.Entities = slices.Compact(slices.Sorted(slices.Values(j.Entities)))
	text, err := json.Marshal(j)
	if err != nil {
		return j, false, fmt.Errorf("encode the job of realm %s: %w", j.Realm, err)
	}
	bounded, cancel := s.bound(ctx)
	defer cancel()
	asked, err := jobAskScript.Run(bounded, s.db, []string{Key("job", j.Realm)}, text, string(j.State), jobKept.Milliseconds()).Bool()
	if err != nil {
		return j, false, fmt.Errorf("request a scan of realm %s: %w", j.Realm, err)
	}
	at := j.Requested.Add(visibility)
	// A crash in between leaves a job that nobody takes: asking again adds it here.
	if err := s.db.ZAddNX(bounded, jobsKey, redis.Z{Score: float64(at.UnixMilli()), Member: j.Realm}).Err(); err != nil {
		return j, false, fmt.Errorf("request a scan of realm %s: %w", j.Realm, err)
	}
	if asked {
		return j, true, nil
	}
	there, err := s.Job(ctx, j.Realm)
	return there, false, err
}

// ClaimJobs takes up to n jobs, the oldest first. Nobody else is given them until
// visibility has passed or they are over; [Store.Report] prolongs it.
func (s *Store) ClaimJobs(ctx context.Context, visibility time.Duration, n int) ([]Job, error) {
	bounded, cancel := s.bound(ctx)
	defer cancel()
	realms, err := jobClaimScript.Run(bounded, s.db, []string{jobsKey}, s.ClockArg(), visibility.Milliseconds(), n, jobClaimMost.Milliseconds()).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("claim jobs: %w", err)
	}
	var jobs []Job
	for _, realm := range realms {
		j, err := s.Job(ctx, realm)
		switch {
		case errors.Is(err, ErrNoJob), err == nil && j.State.Over():
			err = s.dropJob(ctx, realm)
		case err == nil:
			jobs = append(jobs, j)
		}
		if err != nil {
			return jobs, err
		}
	}
	return jobs, nil
}

func (s *Store) dropJob(ctx context.Context, realm string) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.db.ZRem(ctx, jobsKey, realm).Err(); err != nil {
		return fmt.Errorf("end the job of realm %s: %w", realm, err)
	}
	return nil
}

// Report keeps how far a claimed job is and prolongs the claim by that time from now, or
// ends it. It returns whether somebody wants it cancelled.
func (s *Store) Report(ctx context.Context, j Job, visibility time.Duration) (cancelled bool, err error) {
	now, err := s.Now(ctx)
	if err != nil {
		return false, err
	}
	j.Updated = now.UTC().Truncate(time.Millisecond)
	text, err := json.Marshal(j)
	if err != nil {
		return false, fmt.Errorf("encode the job of realm %s: %w", j.Realm, err)
	}
	bounded, cancel := s.bound(ctx)
	defer cancel()
	key := Key("job", j.Realm)
	pipe := s.db.Pipeline()
	pipe.HSet(bounded, key, "job", text, "state", string(j.State))
	pipe.PExpire(bounded, key, jobKept)
	flag := pipe.HGet(bounded, key, "cancel")
	if j.State.Over() {
		pipe.ZRem(bounded, jobsKey, j.Realm)
	} else {
		pipe.ZAddXX(bounded, jobsKey, redis.Z{Score: float64(now.Add(visibility).UnixMilli()), Member: j.Realm})
	}
	if _, err := pipe.Exec(bounded); err != nil && !errors.Is(err, redis.Nil) {
		return false, fmt.Errorf("update the job of realm %s: %w", j.Realm, err)
	}
	return flag.Val() != "", nil
}

// Job returns the last job of a realm, or an error that wraps [ErrNoJob].
func (s *Store) Job(ctx context.Context, realm string) (Job, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	text, err := s.db.HGet(ctx, Key("job", realm), "job").Result()
	if errors.Is(err, redis.Nil) {
		return Job{}, fmt.Errorf("realm %s: %w", realm, ErrNoJob)
	}
	var j Job
	if err == nil {
		err = json.Unmarshal([]byte(text), &j)
	}
	if err != nil {
		return Job{}, fmt.Errorf("read the job of realm %s: %w", realm, err)
	}
	return j, nil
}

// Jobs returns the jobs that are not over, the oldest first.
func (s *Store) Jobs(ctx context.Context) ([]Job, error) {
	bounded, cancel := s.bound(ctx)
	defer cancel()
	realms, err := s.db.ZRange(bounded, jobsKey, 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	var jobs []Job
	for _, realm := range realms {
		j, err := s.Job(ctx, realm)
		if errors.Is(err, ErrNoJob) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !j.State.Over() {
			jobs = append(jobs, j)
		}
	}
	slices.SortFunc(jobs, func(a, b Job) int {
		if c := a.Requested.Compare(b.Requested); c != 0 {
			return c
		}
		return strings.Compare(a.Realm, b.Realm)
	})
	return jobs, nil
}

// Cancel ends a job that waits, and asks whoever runs one to end it, which takes
// some seconds. It returns the job as it was; one that is over stays as it is.
func (s *Store) Cancel(ctx context.Context, realm string) (Job, error) {
	j, err := s.Job(ctx, realm)
	if err != nil || j.State.Over() {
		return j, err
	}
	bounded, cancel := s.bound(ctx)
	defer cancel()
	// The flag first: who takes the job now sees it with the first report.
	if err := s.db.HSet(bounded, Key("job", realm), "cancel", "1").Err(); err != nil {
		return j, fmt.Errorf("cancel the job of realm %s: %w", realm, err)
	}
	if j.State != JobQueued {
		return j, nil
	}
	now, err := s.Now(ctx)
	if err != nil {
		return j, err
	}
	ended := j
	ended.State, ended.Ended = JobCancelled, now.UTC().Truncate(time.Millisecond)
	if _, err := s.Report(ctx, ended, 0); err != nil {
		return j, err
	}
	return j, nil
}
