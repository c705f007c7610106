package devserver

// StartRedisCompacting is StartRedis with a journal that is rewritten after
// compactAt bytes instead of 64 MiB.
func StartRedisCompacting(o RedisOptions, compactAt int64) (*Redis, error) {
	return startRedis(o, compactAt)
}

// BreakJournal makes every later write of the journal fail.
func (r *Redis) BreakJournal() { r.journal.file.Close() }
