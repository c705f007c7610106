package chaos

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
)

// usage is what a process takes of the machine.
type usage struct {
	At          time.Time `json:"at"`
	Process     string    `json:"process"`
	ResidentKiB int       `json:"resident_kib"`
	Files       int       `json:"files"`
	Threads     int       `json:"threads"`
}

// sampler looks at what the services take, as the kernel counts it: on Linux; it
// sees nothing elsewhere.
type sampler struct {
	plant *plant

	mu   sync.Mutex // guards most
	most map[string]usage
}

func newSampler(p *plant) *sampler { return &sampler{plant: p, most: map[string]usage{}} }

func (s *sampler) run(ctx context.Context) {
	j, err := s.plant.openJournal("usage")
	if err != nil {
		return
	}
	for lifecycle.Sleep(ctx, time.Second) == nil {
		for _, r := range s.plant.replicas() {
			if u, ok := usageOf(r.pid()); ok {
				u.At, u.Process = time.Now().UTC(), r.name
				j.write(u)
				s.mu.Lock()
				m := s.most[r.name]
				m.ResidentKiB, m.Files, m.Threads = max(m.ResidentKiB, u.ResidentKiB), max(m.Files, u.Files), max(m.Threads, u.Threads)
				s.most[r.name] = m
				s.mu.Unlock()
			}
		}
	}
}

func usageOf(pid int) (u usage, ok bool) {
	if pid == 0 {
		return u, false
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, false
	}
	for line := range bytes.Lines(status) {
		name, value, _ := strings.Cut(string(line), ":")
		fields := strings.Fields(value)
		if len(fields) == 0 {
			continue
		}
		n, _ := strconv.Atoi(fields[0])
		switch name {
		case "VmRSS":
			u.ResidentKiB = n
		case "Threads":
			u.Threads = n
		}
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	u.Files = len(files)
	return u, err == nil
}

// What a replica may take at most under this load.
const (
	mostResidentKiB = 512 << 10
	mostFiles       = 1000
)

func (s *sampler) verdict() (tried bool, problems []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, u := range s.most {
		if u.ResidentKiB > mostResidentKiB || u.Files > mostFiles {
			problems = append(problems, fmt.Sprintf("%s took %d KiB and %d files", name, u.ResidentKiB, u.Files))
		}
	}
	return len(s.most) > 0, problems
}
