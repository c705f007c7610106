package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/audit"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
)

type auditCmd struct {
	PostgresURL string        `required:"" name:"postgres-url" placeholder:"URL" help:"Database URL of the sink, as in processor.sinks. Pass the password by PGPASSWORD or PGPASSFILE."`
	Sink        string        `default:"postgres" placeholder:"NAME" help:"Name of the sink in processor.sinks (${default})."`
	Realm       []string      `placeholder:"ID" help:"Companies to audit (comma-separated; default: all connected)."`
	Entity      []string      `placeholder:"NAME" help:"Entity types, such as Invoice (comma-separated; default: all that the feed delivers)."`
	Quick       bool          `help:"Compare records only where counts differ: one call per entity, weaker verdict."`
	Content     bool          `help:"Also compare documents by hash, to find differences at the same version; no extra API calls."`
	Repair      bool          `help:"Repair missing, stale, extra and different records through the feed."`
	Grace       time.Duration `default:"2m" placeholder:"AGE" help:"Ignore changes younger than AGE, which webhooks may still deliver (${default})."`
	MaxCalls    int           `placeholder:"N" help:"Stop after N API calls; results so far are kept."`
	SkipYounger time.Duration `placeholder:"AGE" help:"Skip what an audit found complete within AGE, such as 24h, to continue an earlier audit."`
	Yes         bool          `short:"y" help:"With --repair: skip the confirmation prompt."`
	JSON        bool          `help:"Print one JSON object per company and entity."`
}

// Help is the long help of the command.
func (auditCmd) Help() string {
	return `Compares what a Postgres sink holds with QuickBooks: COUNT(*) on both sides, then the ids, then LastUpdatedTime
and SyncToken of each record. The verdict on an entity of a company is "no gap up to T", T by Intuit's clock, or
what differs: missing, stale (an older version), extra (gone from QuickBooks); with --content also differs
(another document of the same version, such as a balance). It is printed, and stored in Redis
and in ledgerfeed.audit beside the sink's tables. The last lines are the scope: which entities were compared, and
which the company's QuickBooks does not have (verdict "unavailable").

It costs one call for each entity of a company and one for 1,000 records, within the month's budget
(qbo.monthly_calls), in turns that live work leaves. Ended at any time it does no harm, and --skip-younger lets the
next one go on. What a filter keeps from the sink would be called missing: name the entities it is given.

Exits 0 if there is no gap, 1 if there is one, repaired or not, or not all could be compared.
The settings are the services' own: LEDGERFEED_REDIS_URL, LEDGERFEED_NATS_URL, LEDGERFEED_CONNECTION_KEYS,
LEDGERFEED_QBO_CLIENT_ID, LEDGERFEED_QBO_CLIENT_SECRET.

Examples:
  ledgerfeed audit --postgres-url postgres://reader@db/books
  ledgerfeed audit --postgres-url postgres://reader@db/books --realm 9341453000000001 --entity Invoice,Bill
  ledgerfeed audit --postgres-url postgres://reader@db/books --quick --max-calls 5000 --skip-younger 24h
  ledgerfeed audit --postgres-url postgres://reader@db/books --realm 9341453000000001 --repair --yes --json`
}

func (c *auditCmd) validate(p process) error {
	if err := validRealms("--realm", c.Realm...); err != nil {
		return err
	}
	names, err := entities(c.Entity)
	if err != nil {
		return err
	}
	c.Entity = names
	switch {
	case c.Content && c.Quick:
		return lifecycle.Usage(errors.New("--content compares all records and --quick does not: give one of them"))
	case c.MaxCalls < 0:
		return lifecycle.Usage(fmt.Errorf("--max-calls %d: give a number of calls", c.MaxCalls))
	case c.Grace < 0:
		return lifecycle.Usage(fmt.Errorf("--grace %s: give a positive duration or 0", c.Grace))
	case c.SkipYounger < 0:
		return lifecycle.Usage(fmt.Errorf("--skip-younger %s: give a positive duration", c.SkipYounger))
	case c.Yes && !c.Repair:
		return lifecycle.Usage(errors.New("--yes: there is nothing to ask without --repair"))
	case c.Repair && !c.Yes && !p.terminal():
		return lifecycle.Usage(errors.New("there is no terminal to ask at: give --yes, or leave --repair out to see what differs"))
	}
	return nil
}

// Run audits.
func (c *auditCmd) Run(ctx context.Context, p process) error {
	if err := c.validate(p); err != nil {
		return err
	}
	servers, err := openServers(ctx, p)
	if err != nil {
		return err
	}
	defer servers.close(ctx)
	if err := sinkKnown(ctx, servers.store, c.Sink); err != nil {
		return err
	}
	realms, err := c.realms(ctx, p, servers)
	if err != nil {
		return err
	}
	table, err := c.table(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = table.Close() }()
	if c.Repair && !c.Yes {
		if err := p.agree(ctx, fmt.Sprintf("audit %d companies and repair what differs at %s?", len(realms), c.Sink)); err != nil {
			return err
		}
	}
	names, err := servers.store.CompanyNames(ctx, realms)
	if err != nil {
		return err
	}
	report, err := c.audit(ctx, p, servers, table, realms, names)
	return c.end(ctx, p, report, names, err)
}

// table opens the sink's database.
func (c *auditCmd) table(ctx context.Context) (*postgres.Sink, error) {
	table, err := postgres.Open(ctx, postgres.Options{Name: c.Sink, URL: secret.String(c.PostgresURL), NoLog: true})
	if err != nil {
		return nil, lifecycle.Usage(fmt.Errorf("--postgres-url: %s", plain(strings.Join(strings.Fields(err.Error()), " "))))
	}
	// A database that is away is no error of Open.
	if _, err := table.Alive(ctx, "", ""); err != nil {
		return nil, errors.Join(lifecycle.Unreachable("", fmt.Errorf("--postgres-url: the database does not answer: %w", err)), table.Close())
	}
	return table, nil
}

// realms are those to audit that can be read.
func (c *auditCmd) realms(ctx context.Context, p process, s *servers) ([]string, error) {
	realms := c.Realm
	if len(realms) == 0 {
		all, err := s.connections.List(ctx)
		if err != nil {
			return nil, err
		}
		realms = all
	}
	slices.Sort(realms)
	var live []string
	for _, realm := range slices.Compact(realms) {
		conn, err := s.connections.Get(ctx, realm)
		switch {
		case err != nil:
			return nil, fmt.Errorf("realm %s: %w", realm, err)
		case conn.State == connection.Live:
			live = append(live, realm)
		case len(c.Realm) > 0:
			return nil, conn.Unusable()
		default:
			names, err := s.store.CompanyNames(ctx, []string{realm})
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(p.stderr, "note: realm %s is left out: %v\n", companies(names).named(realm), conn.Unusable())
		}
	}
	if len(live) == 0 {
		return nil, errors.New("no company is connected: there is nothing to audit")
	}
	return live, nil
}

func (c *auditCmd) audit(ctx context.Context, p process, s *servers, table audit.Table, realms []string, names companies) (audit.Report, error) {
	bar := newAuditProgress(p.stderr)
	defer bar.end()
	return audit.Run(ctx, audit.Options{
		State: s.store, QBO: s.client, Stream: s.broker, Table: table, Sink: c.Sink, Realms: realms, Entities: c.Entity,
		Quick: c.Quick, Content: c.Content, Repair: c.Repair, MaxCalls: c.MaxCalls, SkipYounger: c.SkipYounger,
		Grace: c.Grace, Progress: bar.show,
		Verdict: func(v state.Audit) {
			if c.JSON {
				_ = encodeNamed(p.stdout, v, names[v.Realm])
			}
		},
	})
}

// end prints what was found and says by the exit code whether there is a gap.
func (c *auditCmd) end(ctx context.Context, p process, r audit.Report, names companies, err error) error {
	if !c.JSON {
		if werr := writeAudit(p.stdout, r, names); werr != nil {
			return errors.Join(err, werr)
		}
	}
	if r.Skipped > 0 {
		fmt.Fprintf(p.stderr, "%d entities were found without a gap within %s and left out\n", r.Skipped, c.SkipYounger)
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted: %d verdicts are kept, --skip-younger goes on from there", len(r.Verdicts))
	case errors.Is(err, audit.ErrMaxCalls) || errors.Is(err, state.ErrBudget):
		return fmt.Errorf("%w: %d verdicts are kept, --skip-younger goes on from there", err, len(r.Verdicts))
	case err != nil:
		return err
	case r.Gaps() > 0:
		return fmt.Errorf("%d records differ", r.Gaps())
	case !r.Whole():
		return errors.New("not all could be compared")
	}
	return nil
}

func writeAudit(w io.Writer, r audit.Report, known companies) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "REALM\tENTITY\tVERDICT\tUP TO\tRECORDS\tMISSING\tSTALE\tEXTRA\tDIFFERS\tREPAIRED\tCALLS\tDETAIL\tCOMPANY")
	records, realms := 0, map[string]bool{}
	for _, v := range r.Verdicts {
		records += v.Records
		realms[v.Realm] = true
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\n", v.Realm, v.Entity, v.Verdict, clock(v.UpTo),
			v.Records, v.Missing, v.Stale, v.Extra, v.Differs, v.Repaired, v.Calls, short(v.Detail), known.of(v.Realm))
	}
	if len(r.Verdicts) > 0 {
		if err := t.Flush(); err != nil {
			return err
		}
	}
	said := fmt.Sprintf("%d records differ", r.Gaps())
	switch {
	case r.Gaps() == 0 && r.Whole() && !r.UpTo.IsZero():
		said = "no gap up to " + r.UpTo.Format(time.RFC3339)
	case r.Gaps() == 0 && r.Whole():
		said = "the counts agree"
	case r.Gaps() == 0:
		said = "not all could be compared"
	}
	if _, err := fmt.Fprintf(w, "%s: %d companies, %d records, %d calls\n", said, len(realms), records, r.Calls); err != nil {
		return err
	}
	return writeScope(w, r, known)
}

// writeScope says which entities the verdicts are about.
func writeScope(w io.Writer, r audit.Report, known companies) error {
	compared, unavailable := r.Scope()
	same := map[string][]string{} // realms by their scope
	for realm, names := range compared {
		scope := fmt.Sprintf("%d entities: %s", len(names), strings.Join(names, ", "))
		if without := unavailable[realm]; len(without) > 0 {
			scope += "; not in this QuickBooks: " + strings.Join(without, ", ")
		}
		same[scope] = append(same[scope], known.named(realm))
	}
	for _, scope := range slices.Sorted(maps.Keys(same)) {
		slices.Sort(same[scope])
		if _, err := fmt.Fprintf(w, "scope of %s: %s\n", strings.Join(same[scope], ", "), scope); err != nil {
			return err
		}
	}
	return nil
}

// sinkKnown refuses a sink that nobody writes to.
func sinkKnown(ctx context.Context, store *state.Store, name string) error {
	names, err := store.Sinks(ctx)
	if err != nil {
		return err
	}
	if !slices.Contains(names, name) {
		return lifecycle.Usage(fmt.Errorf("sink %s: no processor writes to a sink of that name; there are: %s", name, orDash(strings.Join(names, ", "))))
	}
	return nil
}

// auditProgress shows how far an audit is, how fast, and how long it takes yet.
type auditProgress struct {
	*progress
	out  io.Writer
	next time.Time
}

func newAuditProgress(out io.Writer) *auditProgress {
	b := &auditProgress{out: out, next: time.Now().Add(plainEvery)}
	if _, ok := out.(*os.File); ok && isTerminal(out) {
		b.progress = newProgress(out, -1, "counting")
	}
	return b
}

func (b *auditProgress) show(p audit.Progress) {
	if b.progress != nil && b.bar != nil {
		b.bar.ChangeMax(max(p.Records, 1))
		b.describe(fmt.Sprintf("%d of %d companies, %s %s, %d calls", p.RealmsDone, p.Realms, p.Realm, p.Entity, p.Calls))
		b.progress.show(p.Compared)
		return
	}
	now := time.Now()
	if now.Before(b.next) {
		return
	}
	b.next = now.Add(plainEvery)
	fmt.Fprintf(b.out, "compared %d of %d records of %d of %d companies, %.0f/s, %s left, %d calls\n",
		p.Compared, p.Records, p.RealmsDone, p.Realms, p.PerSecond, rough(p.Left), p.Calls)
}

func (b *auditProgress) end() {
	if b.progress != nil {
		b.progress.end()
	}
}
