package cli

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

type scanStatusCmd struct {
	redisFlags `embed:""`
	Realm      []string `placeholder:"ID" help:"Show the last scan of these companies, finished or not (comma-separated; default: all unfinished scans)."`
	Follow     bool     `help:"Follow the progress until the scans finish."`
	JSON       bool     `help:"Print one JSON object per line."`
}

// Help is the long help of the command.
func (scanStatusCmd) Help() string {
	return `Lists the scans that somebody asked for and that are not over, and the first loads of new companies: their state
(queued, running, verifying: what was missing is being delivered; then done, failed or cancelled), the kinds of
records that are done, the records seen, those that some sink lacked, metered calls, rate and time left. How a scan
ended can be looked up for seven days. Below the table stand the entities that QuickBooks refuses in these companies: a
scan leaves them out and is done all the same.

Examples:
  ledgerfeed scan status
  ledgerfeed scan status --realm 9341453000000001 --follow
  ledgerfeed scan status --json | jq 'select(.state == "running") | .progress'`
}

// Run shows.
func (c *scanStatusCmd) Run(ctx context.Context, p process) error {
	if len(c.Realm) > 0 {
		if err := (&realmSelection{Realm: c.Realm}).validate(); err != nil {
			return err
		}
	}
	store, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	jobs, err := c.jobs(ctx, store)
	if err != nil {
		return err
	}
	if c.Follow && len(jobs) > 0 {
		var realms []string
		for _, j := range jobs {
			realms = append(realms, j.Realm)
		}
		return watchJobs(ctx, p, store, realms, c.JSON)
	}
	names, err := companiesOf(ctx, store, jobs, func(j state.Job) string { return j.Realm })
	if err != nil {
		return err
	}
	if c.JSON {
		return printJobs(p, jobs, names)
	}
	if len(jobs) == 0 {
		fmt.Fprintln(p.stderr, "no scan was asked for")
		return nil
	}
	if err := tableOfJobs(p, jobs, names); err != nil {
		return err
	}
	return leftOut(ctx, p, store, jobs, names)
}

// leftOut says which entities QuickBooks refuses in the companies of jobs.
func leftOut(ctx context.Context, p process, store *state.Store, jobs []state.Job, names companies) error {
	for _, j := range jobs {
		all, err := store.Refusals(ctx, j.Realm)
		if err != nil {
			return err
		}
		for _, r := range all {
			if r.Way != state.RefusedByQuery {
				continue
			}
			if _, err := fmt.Fprintf(p.stdout, "realm %s: %s %s: %s\n", names.named(j.Realm), plain(r.Entity), r.Words(), plain(r.Text)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *scanStatusCmd) jobs(ctx context.Context, store *state.Store) ([]state.Job, error) {
	if len(c.Realm) == 0 {
		return store.Jobs(ctx)
	}
	var jobs []state.Job
	for _, realm := range c.Realm {
		j, err := store.Job(ctx, realm)
		if errors.Is(err, state.ErrNoJob) {
			return nil, fmt.Errorf("realm %s: no scan was asked for in the last seven days", realm)
		}
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, j)
	}
	return jobs, nil
}

func tableOfJobs(p process, jobs []state.Job, names companies) error {
	now := time.Now()
	t := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "REALM\tSTATE\tENTITIES\tRECORDS\tMISSING\tCALLS\tRATE\tLEFT\tREQUESTED\tBY\tERROR\tCOMPANY")
	for _, j := range jobs {
		left := "-"
		if d := j.Left(now); d > 0 {
			left = d.String()
		}
		records := fmt.Sprint(j.Progress.Records)
		if j.Progress.Expected > j.Progress.Records {
			records += fmt.Sprintf("/%d", j.Progress.Expected)
		}
		fmt.Fprintf(t, "%s\t%s\t%d/%d\t%s\t%d\t%d\t%.0f/s\t%s\t%s\t%s\t%s\t%s\n", plain(j.Realm), j.State, j.Progress.EntitiesDone, j.Progress.Entities,
			records, j.Progress.Missing, j.Progress.Calls, j.Rate(now), left, clock(j.Requested), orDash(j.By), short(j.Error), names.of(j.Realm))
	}
	return t.Flush()
}

// shownJob is a job as --json prints it.
type shownJob struct {
	state.Job
	Rate        float64 `json:"records_per_second"`
	LeftSeconds float64 `json:"left_seconds,omitempty"`
}

func shownJobs(jobs []state.Job) []shownJob {
	now := time.Now()
	var shown []shownJob
	for _, j := range jobs {
		shown = append(shown, shownJob{j, j.Rate(now), j.Left(now).Seconds()})
	}
	return shown
}

func printJobs(p process, jobs []state.Job, names companies) error {
	return printNamed(p.stdout, shownJobs(jobs), names, func(j shownJob) string { return j.Realm })
}

const watchPoll = 250 * time.Millisecond

// watchJobs shows how far jobs are until all are over, and what came of them.
func watchJobs(ctx context.Context, p process, store *state.Store, realms []string, asJSON bool) error {
	bar := newProgress(p.stderr, -1, "waiting for a reconciler: records")
	tick := time.NewTicker(watchPoll)
	defer tick.Stop()
	for {
		jobs, open, err := jobsOf(ctx, store, realms)
		if err != nil {
			return err
		}
		showJobs(bar, jobs)
		if open == 0 {
			bar.end()
			names, err := companiesOf(context.WithoutCancel(ctx), store, jobs, func(j state.Job) string { return j.Realm })
			return errors.Join(err, ended(p, jobs, names, asJSON))
		}
		select {
		case <-ctx.Done():
			bar.end()
			return fmt.Errorf("no longer watched: %s not over yet; ledgerfeed scan status shows them, ledgerfeed scan cancel ends them",
				several(open, "scan is", "scans are"))
		case <-tick.C:
		}
	}
}

func jobsOf(ctx context.Context, store *state.Store, realms []string) (jobs []state.Job, open int, err error) {
	for _, realm := range realms {
		j, err := store.Job(context.WithoutCancel(ctx), realm)
		if err != nil {
			return nil, 0, err
		}
		jobs = append(jobs, j)
		if !j.State.Over() {
			open++
		}
	}
	return jobs, open, nil
}

// showJobs shows the sum of what is under way.
func showJobs(bar *progress, jobs []state.Job) {
	now := time.Now()
	var sum state.JobProgress
	var rate float64
	var left time.Duration
	begun := false
	for _, j := range jobs {
		begun = begun || !j.Started.IsZero()
		sum.Entities += j.Progress.Entities
		sum.EntitiesDone += j.Progress.EntitiesDone
		sum.Records += j.Progress.Records
		sum.Expected += j.Progress.Expected
		sum.Missing += j.Progress.Missing
		sum.Calls += j.Progress.Calls
		if j.State == state.JobRunning {
			rate += j.Rate(now)
			left = max(left, j.Left(now))
		}
	}
	if !begun {
		return
	}
	text := fmt.Sprintf("%d of %d entities, %d missing, %d calls, %.0f records/s", sum.EntitiesDone, sum.Entities, sum.Missing, sum.Calls, rate)
	if left > 0 {
		text += fmt.Sprintf(", %s left", left)
	}
	bar.describe(text + ": records")
	bar.of(max(sum.Expected, sum.Records, 1))
	bar.show(sum.Records)
}

// ended prints what came of jobs. One that was not completed is an error.
func ended(p process, jobs []state.Job, names companies, asJSON bool) error {
	failed := 0
	for _, j := range jobs {
		if j.State != state.JobDone {
			failed++
		}
	}
	if asJSON {
		if err := printJobs(p, jobs, names); err != nil {
			return err
		}
	} else {
		for _, j := range jobs {
			text := fmt.Sprintf("realm %s %s: %d of %d entities, %d records seen, %d missing, %d calls, %s", names.named(j.Realm), j.State,
				j.Progress.EntitiesDone, j.Progress.Entities, j.Progress.Records, j.Progress.Missing, j.Progress.Calls, j.Ended.Sub(j.Started).Round(time.Millisecond))
			if j.Error != "" {
				text += ": " + plain(j.Error)
			}
			if j.Note != "" {
				text += "; " + plain(j.Note)
			}
			if _, err := fmt.Fprintln(p.stdout, text); err != nil {
				return err
			}
		}
	}
	if failed > 0 {
		return fmt.Errorf("%s not completed", several(failed, "scan was", "scans were"))
	}
	return nil
}

type scanCancelCmd struct {
	redisFlags     `embed:""`
	realmSelection `embed:""`
	consent        `embed:""`
	JSON           bool `help:"Print the cancelled scans, one JSON object per line."`
}

// Help is the long help of the command.
func (scanCancelCmd) Help() string {
	return `Ends scans that were asked for: one that waits at once, one that runs within some seconds. What it found until then
is delivered all the same; the cursors of what it had not finished stay. What is due by the schedule goes on.

Examples:
  ledgerfeed scan cancel --realm 9341453000000001
  ledgerfeed scan cancel --all --yes`
}

// Run cancels.
func (c *scanCancelCmd) Run(ctx context.Context, p process) error {
	if err := c.validate(); err != nil {
		return err
	}
	if err := c.possible(p); err != nil {
		return err
	}
	store, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	open, err := c.underway(ctx, store)
	if err != nil {
		return err
	}
	names, err := companiesOf(ctx, store, open, func(j state.Job) string { return j.Realm })
	if err != nil {
		return err
	}
	switch {
	case len(open) == 0:
		fmt.Fprintln(p.stderr, "no scan to cancel")
		return nil
	case c.DryRun:
		return c.print(p, open, names, "would be cancelled")
	}
	if err := c.ask(ctx, p, fmt.Sprintf("cancel %s?", several(len(open), "scan", "scans"))); err != nil {
		return err
	}
	for _, j := range open {
		if _, err := store.Cancel(ctx, j.Realm); err != nil {
			return err
		}
	}
	return c.print(p, open, names, "is cancelled")
}

func (c *scanCancelCmd) underway(ctx context.Context, store *state.Store) ([]state.Job, error) {
	if c.All {
		return store.Jobs(ctx)
	}
	var open []state.Job
	for _, realm := range c.Realm {
		j, err := store.Job(ctx, realm)
		if errors.Is(err, state.ErrNoJob) || err == nil && j.State.Over() {
			continue
		}
		if err != nil {
			return nil, err
		}
		open = append(open, j)
	}
	return open, nil
}

func (c *scanCancelCmd) print(p process, jobs []state.Job, names companies, verb string) error {
	if c.JSON {
		return printJobs(p, jobs, names)
	}
	for _, j := range jobs {
		if _, err := fmt.Fprintf(p.stdout, "realm %s: the scan %s; it was %s\n", names.named(j.Realm), verb, j.State); err != nil {
			return err
		}
	}
	return nil
}
