// Package tokenimport imports refresh tokens that another program got, many at a time,
// from CSV or JSON lines.
//
// Each line stands for itself: one that cannot be read or that Intuit refuses is
// reported with its number and holds up no other. A run can be repeated: what was
// imported is left out by its [Done] file, and a company that is connected already is
// not disturbed by an older token. A refreshed token that cannot be stored is handed
// out (Result.Token) instead of lost.
//
// It does not fetch tokens and does not check which company one is for: Intuit
// refuses reads of another.
package tokenimport
