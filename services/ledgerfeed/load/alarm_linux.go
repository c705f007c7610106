package load

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// alarm wakes one goroutine at a time, within some 0.1 ms. The timers of the
// runtime are up to 1 ms late on an idle machine, as it waits for them and for
// the network in epoll_wait, which counts in milliseconds: that would be charged
// to the server.
type alarm struct {
	fd   int
	file *os.File
	stop func() bool
}

// newAlarm returns an alarm that does not sleep any more once ctx has ended.
func newAlarm(ctx context.Context) (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a timer: %w", err)
	}
	// Not blocking, so the runtime waits for it as for a connection.
	a := &alarm{fd: fd, file: os.NewFile(uintptr(fd), "timer")}
	a.stop = context.AfterFunc(ctx, func() { _ = a.file.SetReadDeadline(time.Unix(1, 0)) })
	return a, nil
}

func (a *alarm) sleepUntil(at time.Time) {
	d := time.Until(at)
	if d <= 0 {
		return
	}
	if unix.TimerfdSettime(a.fd, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}, nil) != nil {
		return // cannot be: the duration is positive
	}
	var expired [8]byte
	_, _ = a.file.Read(expired[:]) // fails when ctx has ended
}

func (a *alarm) close() {
	a.stop()
	a.file.Close()
}
