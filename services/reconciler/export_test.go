package reconciler

import "context"

// Heal is one look of the loop that heals what Redis has lost.
func (r *Reconciler) Heal(ctx context.Context) error { return r.heal(ctx) }

// DueAfterOutage makes the realms due for the outages that are noted.
func (r *Reconciler) DueAfterOutage(ctx context.Context) error {
	w, err := r.state.Watch(ctx)
	if err != nil {
		return err
	}
	return r.dueAfterOutage(ctx, w)
}
