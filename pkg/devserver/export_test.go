package devserver

// StartRedisCompacting is StartRedis with a journal that is rewritten after
// compactAt bytes instead of 64 MiB.
func StartRedisCompacting(o RedisOptions, compactAt int64) (*Redis, error) {
	return startRedis(o, compactAt)
}

// BreakJournal makes every later write of the journal fail.
func (r *Redis) BreakJournal() {
	r.journal.mu.Lock()
	defer r.journal.mu.Unlock()
	r.journal.file.Close()
}

// HoldSync makes the journal's next syncs wait until release is closed.
func (r *Redis) HoldSync(release <-chan struct{}) {
	r.journal.mu.Lock()
	defer r.journal.mu.Unlock()
	r.journal.file = heldFile{r.journal.file, release}
}

type heldFile struct {
	journalFile
	release <-chan struct{}
}

func (f heldFile) Sync() error {
	<-f.release
	return f.journalFile.Sync()
}

// Peek reads a string past the journal.
func (r *Redis) Peek(key string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, _ := r.mini.Get(key)
	return v
}

// LoopbackOf is Loopback of a machine that listens like that.
var LoopbackOf = loopbackOf
