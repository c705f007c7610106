package chaos

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func newTestAcks(t *testing.T) *acks {
	t.Helper()
	j, err := newJournal(filepath.Join(t.TempDir(), "pubacks.jsonl"))
	require.NoError(t, err)
	t.Cleanup(j.close)
	return newAcks(j)
}

func publication(subject, reply, id, data string) string {
	header := "NATS/1.0\r\nNats-Expected-Stream: LF_EVENTS\r\nNats-Msg-Id: " + id + "\r\n\r\n"
	return fmt.Sprintf("HPUB %s %s %d %d\r\n%s%s\r\n", subject, reply, len(header), len(header)+len(data), header, data)
}

func answer(reply, json string) string {
	return fmt.Sprintf("MSG %s 1 %d\r\n%s\r\n", reply, len(json), json)
}

// However the bytes are cut, an acknowledgement counts for the message it answers.
func TestTap_KnowsWhatIsAcknowledged(t *testing.T) {
	sent := "CONNECT {\"verbose\":false}\r\nPING\r\nSUB _INBOX.a.* 1\r\n" +
		publication("lf.event.01.1", "_INBOX.a.1", "first", "MSG _INBOX.a.1 1 2\r\nhi\r\n") +
		publication("lf.event.01.1", "_INBOX.a.2", "second", "") +
		publication("lf.event.01.1", "_INBOX.a.3", "third", "x")
	said := "INFO {\"version\":\"2.15.2\"}\r\nPONG\r\n+OK\r\n" +
		answer("_INBOX.a.2", `{"stream":"LF_EVENTS","seq":7}`) +
		answer("_INBOX.a.3", `{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"LF_EVENTS","seq":0}`) +
		answer("_INBOX.a.9", `{"stream":"LF_EVENTS","seq":8}`)
	for _, size := range []int{1, 3, 7, 64, 1 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			a := newTestAcks(t)
			tap := a.tap()
			feed(tap.Client, sent, size)
			feed(tap.Server, said, size)
			now := time.Now()
			require.False(t, a.before("first", now), "nobody answered")
			require.True(t, a.before("second", now))
			require.False(t, a.before("second", now.Add(-time.Hour)))
			require.False(t, a.before("third", now), "refused")
		})
	}
}

func feed(to func([]byte), text string, size int) {
	for len(text) > 0 {
		n := min(size, len(text))
		to([]byte(text[:n]))
		text = text[n:]
	}
}

func TestTap_BytesThatAreNoProtocolSilenceIt(t *testing.T) {
	a := newTestAcks(t)
	tap := a.tap()
	tap.Client([]byte("HPUB a b c d\r\n"))
	tap.Client([]byte(publication("lf.event.01.1", "_INBOX.a.1", "first", "")))
	tap.Server([]byte(answer("_INBOX.a.1", `{"stream":"LF_EVENTS","seq":1}`)))
	require.False(t, a.before("first", time.Now()))
}
