package stream

import "context"

// LookForDrift is one look of WatchDrift.
func (c *Conn) LookForDrift(ctx context.Context, known map[string]bool) map[string]bool {
	return c.lookForDrift(ctx, known)
}
