package chaos

// judgeI4 is I4 and I8: a scan that is cut off or fails must not move a cursor past
// what it has not seen.
func (r *run) judgeI4(res *Result, dead letters) {
	all, moves := r.cursors.verdict()
	var wrong []string
	for _, w := range all {
		// Of what the endpoint refused there was a letter when the cursor moved.
		if !dead.excuse(w.ref, w.sink) && (w.sink != sinkPost || !r.ended[w.ref]) {
			wrong = append(wrong, w.text)
		}
	}
	wrong = append(wrong, r.lostRewinds()...)
	res.find("I4", moves > 0, wrong...)
	lost := r.plant.books.Stats().WebhookEventsDropped
	var unrepaired []string
	if len(wrong) > 0 {
		unrepaired = []string{"a cursor passed what no sink has, see I4"}
	} else if res.Lost+res.Stale > 0 && lost > 0 {
		unrepaired = []string{"webhooks were lost and not repaired, see I3"}
	}
	res.find("I8", lost > 0, unrepaired...)
}
