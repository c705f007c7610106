// Package audit compares what a Postgres sink holds with QuickBooks, record by record,
// and gives a verdict on each entity of a realm: no gap up to a time, by Intuit's clock.
//
// The steps, for each entity: count on both sides; read all records and compare ids and
// versions (LastUpdatedTime and SyncToken); look again at what differs, since both sides
// go on changing meanwhile; if asked to, publish what differs, as a scan does.
//
// It guarantees that "no gap up to T" is said of an entity only if each record of it that
// QuickBooks showed was at the sink at that version or a newer one, and nothing that the
// sink holds as alive is gone from QuickBooks. The verdicts list their scope: each entity
// has one, and those that a company's QuickBooks does not know are listed as unavailable. What is younger than T is left to its webhook. No cursor and no
// mark is touched, so that ending it at any time does no harm; entities with a verdict
// need not be compared again.
//
// It does not look at the documents unless asked to, nor at attached files, and does not know the filter of the sink: what that
// leaves out it calls missing, so name the entities the sink is given.
package audit
