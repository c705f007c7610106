package postgres_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/sinktest"
)

// A record is stored although jsonb cannot hold one character of it, and says so.
func TestSink_ReplacesWhatJSONBCannotHold(t *testing.T) {
	const whole = "\U0001f9fe"
	for name, row := range map[string]struct {
		document, want string
		changed        bool
	}{
		"NUL":                          {`{"Name":"nul\u0000here"}`, "nul\ufffdhere", true},
		"several":                      {`{"Name":"\u0000\u0000\uD800"}`, "\ufffd\ufffd\ufffd", true},
		"first half at the end":        {`{"Name":"a\ud83e"}`, "a\ufffd", true},
		"first half before an escape":  {`{"Name":"\ud83e\n\ud83e\u0041"}`, "\ufffd\n\ufffdA", true},
		"second half alone":            {`{"Name":"\uddfeb"}`, "\ufffdb", true},
		"halves the wrong way":         {`{"Name":"\uddfe\ud83e"}`, "\ufffd\ufffd", true},
		"a half before a whole":        {`{"Name":"\ud83e\ud83e\uddfe"}`, "\ufffd" + whole, true},
		"bytes that are no UTF-8":      {"{\"Name\":\"a\xff\xed\xa0\x80b\"}", "a\ufffdb", true},
		"a surrogate pair":             {`{"Name":"\ud83e\uddfe"}`, whole, false},
		"a backslash before the NUL":   {`{"Name":"\\u0000 \\\\u0000"}`, `\u0000 \\u0000`, false},
		"a backslash and then the NUL": {`{"Name":"\\\u0000"}`, "\\\ufffd", true},
		"other escapes":                {`{"Name":"\u00e9\u0001\"\/"}`, "é\x01\"/", false},
	} {
		t.Run(name, func(t *testing.T) {
			url := devtest.Postgres(t)
			s := open(t, postgres.Options{URL: secret.String(url)})
			write(t, s, sinktest.Change("7", 1, `{"Name":"before"}`))
			require.False(t, query[bool](t, url, `select sanitized from ledgerfeed.entity`))
			c := sinktest.Change("7", 2, row.document)
			c.ContentHash = qbo.ContentHash(c.GetDocument())
			write(t, s, c)
			require.Equal(t, row.want, query[string](t, url, `select document->>'Name' from ledgerfeed.entity`))
			require.Equal(t, row.want, query[string](t, url, `select document->>'Name' from ledgerfeed.change order by seq desc limit 1`))
			require.Equal(t, row.changed, query[bool](t, url, `select sanitized from ledgerfeed.entity`))
			require.Equal(t, row.changed, query[bool](t, url, `select sanitized from ledgerfeed.change order by seq desc limit 1`))
			require.Equal(t, row.changed, s.Sanitized() == 1)
			hashes, err := s.Documents(t.Context(), "1", "Invoice", []string{"7"})
			require.NoError(t, err)
			require.Equal(t, c.GetContentHash(), hashes["7"], "an audit compares the documents")
			write(t, s, sinktest.Change("7", 3, `{"Name":"after"}`))
			require.False(t, query[bool](t, url, `select sanitized from ledgerfeed.entity`))
		})
	}
}

// A sequence is not part of logical replication, nor of each restore.
func TestSink_MovesASequenceThatIsBehindItsTable(t *testing.T) {
	for name, o := range modes {
		if o.NoLog {
			continue
		}
		t.Run(name, func(t *testing.T) {
			url := devtest.Postgres(t)
			core, logged := observer.New(zap.WarnLevel)
			o.URL, o.Logger = secret.String(url), zap.New(core)
			s := open(t, o)
			for i := range 20 {
				write(t, s, sinktest.Change(fmt.Sprint(i), 1, `{}`))
			}
			exec(t, url, `alter sequence ledgerfeed.change_seq_seq restart with 1`)
			write(t, s, sinktest.Change("7", 2, `{}`), sinktest.Change("8", 2, `{}`))
			write(t, s, sinktest.Change("7", 3, `{}`))
			require.Equal(t, 23, query[int](t, url, `select count(*) from ledgerfeed.change`))
			require.Equal(t, 1, logged.FilterMessageSnippet("change log sequence was behind").Len())
		})
	}
}

// What somebody's trigger says is no fault of a record.
func TestSink_AFailingTriggerIsNoReasonToGiveUp(t *testing.T) {
	for name, body := range map[string]string{
		"NOTIFY of a large document": `perform pg_notify('feed', row_to_json(new)::text);`,
		"RAISE":                      `raise exception 'closed for the night';`,
		"RAISE of a data exception":  `raise exception using errcode = '22003', message = 'no';`,
		"a constraint of its own":    `insert into theirs values (1), (1);`,
	} {
		t.Run(name, func(t *testing.T) {
			url := devtest.Postgres(t)
			s := open(t, postgres.Options{URL: secret.String(url)})
			exec(t, url, `create table theirs (n int primary key)`)
			exec(t, url, `create function tell() returns trigger language plpgsql as $$ begin `+body+` return new; end $$`)
			exec(t, url, `create trigger tell after insert on ledgerfeed.entity for each row execute function tell()`)
			large := sinktest.Change("7", 1, fmt.Sprintf(`{"Memo":"%09000d"}`, 1))
			err := s.Write(t.Context(), changes(large))
			require.Error(t, err)
			requireNotPermanent(t, err)
			exec(t, url, `drop trigger tell on ledgerfeed.entity`)
			write(t, s, large)
		})
	}
}
