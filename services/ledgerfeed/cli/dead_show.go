package cli

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

type deadShowCmd struct {
	brokerFlags `embed:""`
	redisFlags  `embed:""`
	Seq         uint64 `arg:"" help:"Sequence number of the dead letter, as shown by ls."`
	JSON        bool   `help:"Print one JSON object."`
	Raw         bool   `help:"Write only the raw payload."`
}

// Help is the long help of the command.
func (deadShowCmd) Help() string {
	return `Shows why and when a letter was given up, its events, and the raw bytes: as text if they are, else in base64.
Where no body was kept the raw bytes are those of the envelope (protobuf).

Examples:
  ledgerfeed dead show 17
  ledgerfeed dead show 17 --json | jq .envelope
  ledgerfeed dead show 17 --raw > body.json`
}

// Run shows one.
func (c *deadShowCmd) Run(ctx context.Context, p process) error {
	if c.JSON && c.Raw {
		return lifecycle.Usage(fmt.Errorf("--json and --raw: give one of them"))
	}
	conn, err := c.connect(ctx, p)
	if err != nil {
		return err
	}
	defer conn.Close()
	d, err := conn.DeadLetter(ctx, c.Seq)
	if err != nil {
		return err
	}
	if c.Raw {
		return writeRaw(p.stdout, d)
	}
	l := letterOf(d)
	names := namesOf(ctx, p, c.redisFlags, []letter{l}, func(l letter) string { return l.Realm })
	if c.JSON {
		return encodeNamed(p.stdout, l, names[l.Realm])
	}
	return writeLetter(p.stdout, l, names)
}

func writeRaw(w io.Writer, d stream.DeadLetter) error {
	raw := d.Body
	if len(raw) == 0 && d.Envelope != nil {
		var err error
		if raw, err = envelope.Encode(d.Envelope); err != nil {
			return fmt.Errorf("dead letter %d: %w", d.Seq, err)
		}
	}
	_, err := w.Write(raw)
	return err
}

func writeLetter(w io.Writer, l letter, names companies) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, value string) { fmt.Fprintf(t, "%s\t%s\n", name, orDash(value)) }
	line("dead letter", fmt.Sprint(l.Seq))
	line("reason", string(l.Reason))
	line("given up", l.At.Format(time.RFC3339))
	if l.FirstSeen != nil {
		line("first seen", l.FirstSeen.Format(time.RFC3339))
	}
	line("attempts", fmt.Sprint(l.Attempts))
	line("realm", names.named(l.Realm))
	line("app", l.App)
	line("sink", l.Sink)
	line("first error", l.FirstError)
	line("last error", l.LastError)
	line("message", l.Message)
	if err := t.Flush(); err != nil {
		return err
	}
	if err := writeEvents(w, l); err != nil {
		return err
	}
	return writeBody(w, l)
}

func writeEvents(w io.Writer, l letter) error {
	if len(l.events) == 0 {
		return nil
	}
	fmt.Fprintf(w, "\n%d events\n", len(l.events))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "RECORD\tOPERATION\tOCCURRED\tVERSION\tEVENT")
	for _, e := range l.events {
		occurred := ""
		if at := e.GetOccurredAt(); at != nil {
			occurred = at.AsTime().Format(time.RFC3339)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\n", plain(e.GetEntity()+"/"+e.GetEntityId()), sink.Operation(e.GetOperation()), orDash(occurred), e.GetVersion(), orDash(e.GetId()))
	}
	return t.Flush()
}

func writeBody(w io.Writer, l letter) error {
	switch {
	case l.Bytes == 0:
		return nil
	case l.Body != "":
		_, err := fmt.Fprintf(w, "\n%d bytes of text\n%s\n", l.Bytes, l.Body)
		return err
	}
	_, err := fmt.Fprintf(w, "\n%d bytes in base64\n%s\n", l.Bytes, base64.StdEncoding.EncodeToString(l.BodyBase64))
	return err
}
