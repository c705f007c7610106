// Package realmstatus says how each connected company is doing: live, catching up, gap
// suspected, refused by Intuit, parked or disconnected, and why, in pages that cost the same for ten
// companies and for 100,000.
//
// The states are derived from what is stored when they are asked for: the connection,
// the cursors, the scans that are not verified, and the schedule; docs/connections.md
// defines them. The package only reads.
package realmstatus
