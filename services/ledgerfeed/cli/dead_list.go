package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

type deadLsCmd struct {
	brokerFlags  `embed:""`
	redisFlags   `embed:""`
	letterFilter `embed:""`
	Limit        int  `default:"50" placeholder:"N" help:"List the newest N (${default}; 0 = all)."`
	JSON         bool `help:"Print one JSON object per line."`
}

// Help is the long help of the command.
func (deadLsCmd) Help() string {
	return `Lists what could not be delivered, the newest first: its number, when and why it was given up, the company,
the record (+2: two more events), the sink if it is about one, how often it was tried, and the first and the
last error. The settings of the broker are the services' own (LEDGERFEED_NATS_URL); with those of Redis
(LEDGERFEED_REDIS_URL) the companies are shown by name, too.

Reasons: unreadable, invalid-envelope, realm-not-connected, unknown-entity, poison-record, not-found,
refused-by-quickbooks, sink-refused, unknown-sink, retry-queue-full, foreign-app.

Examples:
  ledgerfeed dead ls
  ledgerfeed dead ls --nats-url nats://127.0.0.1:46747
  ledgerfeed dead ls --reason sink-refused --sink crm --since 7d
  ledgerfeed dead ls --realm 9341453000000001 --entity Invoice --limit 0 --json | jq .last_error`
}

// Run lists.
func (c *deadLsCmd) Run(ctx context.Context, p process) error {
	f, err := c.filter()
	if err != nil {
		return err
	}
	if c.Limit < 0 {
		return lifecycle.Usage(fmt.Errorf("--limit %d: give a number of letters, or 0 for all", c.Limit))
	}
	conn, err := c.connect(ctx, p)
	if err != nil {
		return err
	}
	defer conn.Close()
	letters, total, err := c.newest(ctx, conn, f)
	if err != nil {
		return err
	}
	realmOf := func(l letter) string { return l.Realm }
	names := namesOf(ctx, p, c.redisFlags, letters, realmOf)
	if c.JSON {
		return printNamed(p.stdout, letters, names, realmOf)
	}
	if err := tableOf(p.stdout, letters, names); err != nil {
		return err
	}
	if total > len(letters) {
		fmt.Fprintf(p.stderr, "%d of %d dead letters; --limit 0 lists all\n", len(letters), total)
	}
	if total == 0 {
		fmt.Fprintln(p.stderr, "no dead letters")
	}
	return nil
}

// newest are the letters to list, without their bytes, and how many there are.
func (c *deadLsCmd) newest(ctx context.Context, conn *stream.Conn, f stream.DeadFilter) (letters []letter, total int, err error) {
	if f.All() && c.Limit > 0 {
		return newestOfAll(ctx, conn, c.Limit)
	}
	err = conn.EachDead(ctx, f, func(d stream.DeadLetter) error {
		total++
		letters = append(letters, summaryOf(d))
		if c.Limit > 0 && len(letters) >= 2*c.Limit {
			letters = slices.Clone(letters[len(letters)-c.Limit:])
		}
		return nil
	})
	if c.Limit > 0 && len(letters) > c.Limit {
		letters = letters[len(letters)-c.Limit:]
	}
	slices.Reverse(letters)
	return letters, total, err
}

// newestOfAll need not read all.
func newestOfAll(ctx context.Context, conn *stream.Conn, limit int) (letters []letter, total int, err error) {
	dead, err := conn.DeadLetters(ctx, limit)
	if err != nil {
		return nil, 0, err
	}
	for _, d := range dead {
		letters = append(letters, summaryOf(d))
	}
	counts, err := conn.DeadCounts(ctx)
	for _, n := range counts {
		total += int(n)
	}
	return letters, total, err
}

// tableOf lists letters, with the companies where the names could be read.
func tableOf(w io.Writer, letters []letter, names companies) error {
	if len(letters) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	head := "SEQ\tTIME\tREASON\tREALM\tRECORD\tSINK\tTRIES\tFIRST ERROR\tLAST ERROR"
	if names != nil {
		head += "\tCOMPANY"
	}
	fmt.Fprintln(t, head)
	for _, l := range letters {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s", l.Seq, l.At.UTC().Format(time.DateTime), orDash(string(l.Reason)),
			orDash(l.Realm), orDash(l.record()), orDash(l.Sink), l.Attempts, short(l.FirstError), short(l.LastError))
		if names != nil {
			fmt.Fprint(t, "\t", names.of(l.Realm))
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// maxShort is how much of an error a table shows.
const maxShort = 60

func short(s string) string {
	s = strings.Join(strings.Fields(plain(s)), " ")
	if runes := []rune(s); len(runes) > maxShort {
		s = string(runes[:maxShort-1]) + "…"
	}
	return orDash(s)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return plain(s)
}
