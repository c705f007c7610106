package chaos

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
)

// Usage is what a process takes of the machine: one line of usage.jsonl.
type Usage struct {
	At          time.Time `json:"at"`
	Process     string    `json:"process"`
	ResidentKiB int       `json:"resident_kib,omitempty"`
	Files       int       `json:"files,omitempty"`
	Threads     int       `json:"threads,omitempty"`
	// Goroutines is what the process says of itself, every askEvery samples.
	Goroutines int `json:"goroutines,omitempty"`
	// Keys is how many there are in Redis; the others are 0 then.
	Keys int64 `json:"keys,omitempty"`
}

// sampler looks at what the services take, as the kernel counts it: on Linux; it
// sees nothing elsewhere.
type sampler struct {
	plant  *plant
	client *http.Client

	mu   sync.Mutex // guards seen
	seen map[string][]Usage
}

func newSampler(p *plant) *sampler {
	return &sampler{plant: p, client: &http.Client{Timeout: 500 * time.Millisecond}, seen: map[string][]Usage{}}
}

// askEvery is how many samples there are to one count of goroutines and keys.
const askEvery = 5

func (s *sampler) run(ctx context.Context) {
	j, err := s.plant.openJournal("usage")
	if err != nil {
		return
	}
	defer s.client.CloseIdleConnections()
	for i := 0; lifecycle.Sleep(ctx, time.Second) == nil; i++ {
		for _, r := range s.plant.replicas() {
			u, ok := usageOf(r.pid())
			if !ok {
				continue
			}
			if i%askEvery == 0 {
				u.Goroutines = s.goroutines(ctx, r.admin)
			}
			s.keep(j, r.name, u)
		}
		if i%askEvery == 0 {
			// Without an answer Redis is down, which is one of the faults.
			if n, err := s.plant.state.Redis().DBSize(ctx).Result(); err == nil {
				s.keep(j, "redis", Usage{Keys: n})
			}
		}
	}
}

func (s *sampler) keep(j *journal, process string, u Usage) {
	u.At, u.Process = time.Now().UTC(), process
	j.write(u)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[process] = append(s.seen[process], u)
}

// goroutines is 0 where the process does not answer.
func (s *sampler) goroutines(ctx context.Context, admin string) int {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/metrics", nil)
	if err != nil {
		return 0
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
			n, _ := strconv.Atoi(value)
			return n
		}
	}
	return 0
}

func usageOf(pid int) (u Usage, ok bool) {
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

// measure is one thing that is sampled, and how much more of it there may be at the
// end of a long run than at its beginning: by a factor and a number.
type measure struct {
	name   string
	of     func(Usage) int
	most   int // at any time; 0 is no bound
	factor float64
	slack  float64
}

func measures() []measure {
	return []measure{
		{"KiB", func(u Usage) int { return u.ResidentKiB }, 512 << 10, 1.25, 16 << 10},
		{"files", func(u Usage) int { return u.Files }, 1000, 1.25, 20},
		{"goroutines", func(u Usage) int { return u.Goroutines }, 20_000, 1.25, 100},
		{"keys", func(u Usage) int { return int(u.Keys) }, 0, 1.25, 500},
	}
}

// flatFrom is how long a run must have been sampled for its beginning and its end to
// be compared.
const flatFrom = 10 * time.Minute

func (s *sampler) verdict() (tried bool, problems []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.seen)) {
		for _, m := range measures() {
			problems = append(problems, m.judge(name, s.seen[name])...)
		}
	}
	return len(s.seen) > 0, problems
}

// judge compares the second fifth of the samples of a process, when it is warm, with
// the last one: the medians, since restarts begin anew.
func (m measure) judge(process string, all []Usage) (problems []string) {
	var values []int
	for _, u := range all {
		if v := m.of(u); v > 0 {
			values = append(values, v)
		}
	}
	if len(values) == 0 {
		return nil
	}
	if top := slices.Max(values); m.most > 0 && top > m.most {
		problems = append(problems, fmt.Sprintf("%s had %d %s", process, top, m.name))
	}
	fifth := len(values) / 5
	if fifth == 0 || all[len(all)-1].At.Sub(all[0].At) < flatFrom {
		return problems
	}
	early, late := median(values[fifth:2*fifth]), median(values[4*fifth:])
	if float64(late) > m.factor*float64(early)+m.slack {
		problems = append(problems, fmt.Sprintf("%s went from %d to %d %s", process, early, late, m.name))
	}
	return problems
}

func median(values []int) int {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
