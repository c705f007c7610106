package chaos

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
)

// reportWait bounds how long a service may take to say what is wrong once it was started.
const reportWait = 20 * time.Second

// expectReport starts a replica again, which must say in its log what is wrong with a
// server. It may refuse to start: then it is started again and again.
func (r *run) expectReport(ctx context.Context, one *replica, text string) {
	calm := r.calm()
	one.down(syscall.SIGTERM, drainWait)
	from := size(one.log)
	one.up()
	ctx, cancel := context.WithTimeout(ctx, reportWait)
	defer cancel()
	for !logged(one.log, from, text) {
		if lifecycle.Sleep(ctx, 50*time.Millisecond) == nil {
			continue
		}
		// With another server away it does not come that far.
		if calm > 0 && calm == r.calm() {
			r.mu.Lock()
			r.unreported = append(r.unreported, fmt.Sprintf("%s was started and does not say %q", one.name, text))
			r.mu.Unlock()
		}
		return
	}
}

func size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// logged reports whether a log holds the text behind its first bytes.
func logged(path string, from int64, text string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return false
	}
	all, err := io.ReadAll(f)
	return err == nil && bytes.Contains(all, []byte(text))
}
