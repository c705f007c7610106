package jsonl

// BreakAfterHalfALine leaves what a full disk leaves: a part of a line, and a
// file that takes nothing any more.
func (s *Sink) BreakAfterHalfALine() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = s.file.WriteString(`{"key":"half`)
	_ = s.file.Close()
}

// HoldSyncs makes writers wait before their fsync until release is called.
func (s *Sink) HoldSyncs() (release func()) {
	s.syncing.Lock()
	return s.syncing.Unlock
}

// OnStep calls f at each step of putting a file aside, with the sink locked.
func (s *Sink) OnStep(f func(step string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rotation.step = f
}
