package nats_test

import (
	"context"
	"encoding/json"
	"iter"
	"strings"
	"testing"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/nats"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/sinktest"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

var _ processor.Sink = (*nats.Sink)(nil)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// place is a broker and what reads it.
type place struct {
	conn *stream.Conn
	js   jetstream.JetStream
}

func newPlace(t *testing.T) *place {
	t.Helper()
	url := devtest.NATS(t)
	c := stream.DefaultConfig()
	c.URL, c.Profile = url, stream.Dev
	c.EventsMaxBytes, c.RetryMaxBytes, c.DeadMaxBytes, c.ChangesMaxBytes = 64<<20, 64<<20, 64<<20, 256<<20
	conn, err := stream.Connect(t.Context(), stream.Options{Config: c, Name: t.Name()})
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	nc, err := natsgo.Connect(url)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	return &place{conn, js}
}

func (p *place) open(t *testing.T) *nats.Sink {
	t.Helper()
	s, err := nats.Open(t.Context(), nats.Options{Stream: p.conn})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// readable is the sink with what a reader of its stream sees.
type readable struct {
	*nats.Sink
	p *place
}

func (r readable) Snapshot(ctx context.Context) (map[sink.Ref]sink.Row, error) {
	newest := map[sink.Ref]sink.Row{}
	for record, err := range r.Records(ctx) {
		if err != nil {
			return nil, err
		}
		if held, ok := newest[record.Ref]; !ok || record.Supersedes(held) {
			newest[record.Ref] = record.Row()
		}
	}
	return newest, nil
}

func (r readable) Records(ctx context.Context) iter.Seq2[sink.Record, error] {
	return func(yield func(sink.Record, error) bool) {
		s, err := r.p.js.Stream(ctx, "LF_CHANGES")
		if err != nil {
			yield(sink.Record{}, err)
			return
		}
		for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
			var record sink.Record
			m, err := s.GetMsg(ctx, seq)
			if err == nil {
				err = json.Unmarshal(m.Data, &record)
			}
			if !yield(record, err) {
				return
			}
		}
	}
}

func TestSink_KeepsTheContract(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) sinktest.Place {
		p := newPlace(t)
		return sinktest.Place{Shared: true, Open: func() sinktest.Sink { return readable{p.open(t), p} }}
	})
}

func TestSink_AReaderFiltersByRealmAndEntity(t *testing.T) {
	p := newPlace(t)
	s := p.open(t)
	c := sinktest.Change("7", 1, `{"Id":"7"}`)
	require.NoError(t, s.Write(t.Context(), []*ledgerfeedv1.Change{c}))
	require.NoError(t, s.Write(t.Context(), []*ledgerfeedv1.Change{c}), "again, as after a crash")
	str, err := p.js.Stream(t.Context(), "LF_CHANGES")
	require.NoError(t, err)
	require.EqualValues(t, 1, str.CachedInfo().State.Msgs)
	m, err := str.GetLastMsgForSubject(t.Context(), "lf.change.1.Invoice")
	require.NoError(t, err)
	require.Equal(t, sink.RecordOf(c).Key+"/nats", m.Header.Get("Nats-Msg-Id"))
}

func TestSink_RefusesWhatTheBrokerNeverTakes(t *testing.T) {
	p := newPlace(t)
	s := p.open(t)
	large := sinktest.Change("7", 1, `{"Memo":"`+strings.Repeat("x", devserver.MaxPayload)+`"}`)
	err := s.Write(t.Context(), []*ledgerfeedv1.Change{sinktest.Change("6", 1, `{}`), large})
	var partial *sink.PartialError
	require.ErrorAs(t, err, &partial)
	require.NoError(t, partial.Errs[0])
	_, permanent := stream.AsPermanent(partial.Errs[1])
	require.True(t, permanent)
}
