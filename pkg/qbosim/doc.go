// Package qbosim is a QuickBooks Online in process: companies with records
// that change, the API that shows them, OAuth, and webhooks. It is stricter
// than Intuit's in the places where a feed goes wrong, and it knows the truth,
// so that a test can compare.
//
// It guarantees:
//   - The n-th change that Step draws for a realm, the records made up and the
//     faults a webhook meets come from the seed and the order of the changes;
//     neither the clock nor the webhooks' timing has a say. What an answer meets
//     comes from the seed and the number of calls before it.
//   - Writes of a realm have one order in time, and two writes of one record are a
//     millisecond apart at least. An answer shows every write that is older than
//     its own time by more than Faults.ReadLag + Faults.ReplicaLag, and shows all
//     records as they were at one moment: one replica answers.
//   - LastUpdatedTime is the second of the write, but for Faults.BackwardTime (a
//     second before the last one) and Faults.SilentDerived (that of the state
//     before).
//   - Several states of a record may bear one Version (one LastUpdatedTime and
//     SyncToken): balances move without SyncToken. The last one counts: Truth has
//     it, History has all, State.Revision orders them.
//   - A deletion that a webhook claims need not have happened: see
//     Faults.WrongDeletes and ForgeDelete. Truth knows.
//   - With a journal, whatever was shown survives kill -9: records, tokens,
//     and webhooks that were not acknowledged.
//
// It does not keep books (a payment leaves its invoice's balance alone; a balance
// that Faults.Derived moves is made up), takes no writes through the API itself,
// and is no model of how fast Intuit is. It must not be linked into a production
// program.
//
// Options.Now may jump either way. After a jump back, writes of a realm wait at the
// time of its newest one until the clock is there again.
//
// # The API
//
//	GET  /v3/company/{realm}/cdc?entities=&changedSince=
//	GET  /v3/company/{realm}/query?query=       or POST, as application/text
//	POST /v3/company/{realm}/batch              Query and CDCQuery items
//	GET  /v3/company/{realm}/{entity}/{id}      entity in lower case
//	GET  /v3/company/{realm}/companyinfo/{realm}
//	GET  /v3/company/{realm}/exchangerate?sourcecurrencycode=&asofdate=
//	GET  /v3/company/{realm}/preferences
//	GET  /connect/oauth2                        consents at once, or asks (Options.AskConsent); realmId chooses the company
//	POST /oauth2/v1/tokens/bearer
//	POST /v2/oauth2/tokens/revoke
//
// Where Intuit's behaviour is undocumented, it takes the case that hurts:
// CDC cuts at 1,000 objects over all entities together and leaves the oldest
// or the newest, of each entity the deleted objects come last and so are cut
// first, an entity after the cut shows as {}, the entities come in any
// order, and one wrong name, one unencoded '+' or one poison record fails the
// whole call. changedSince is inclusive. Query does not show inactive records
// of name lists, and inactive Budgets, unless asked, knows neither OR nor projections, and takes
// entity names in their exact spelling. A request must accept JSON. An answer shows
// three custom fields of a record; all of them only a Query or a read that asks for
// include=enhancedAllCustomFields (of CDC, see [Options].CDCFields).
//
// [Faults.Refuse] answers something else than what was asked for: for one entity
// (wherever it is named: in a CDC list it refuses the whole answer) or for all calls,
// for a time of Intuit's clock or until it is lifted, with one of
// [RecordedResponses] or a status, code and body of your own. [Faults.RefuseRefresh]
// answers invalid_grant and leaves the refresh token good, as for the keys of another
// app ([Options.OtherClients]) and in an incident of Intuit's. A token is revoked
// once: 400 for a malformed request, an unknown token and a revoked one alike.
//
// Faults come in the three shapes that were recorded: JSON, JSON in lower case,
// and XML.
//
// # Webhooks
//
// A change makes an event when an endpoint is set, the realm is connected (a
// code was exchanged and nothing revoked since) and Intuit offers webhooks for
// the operation and it is selected ([Sim.SetUnselected]). Events gather for Options.Aggregate and go out in deliveries
// of at most 20, one at a time. Only the answer 200 within three seconds
// acknowledges one; anything else is repeated by Intuit's schedule, and all
// later events of the app are withheld until then.
//
// # The control API
//
// Bodies and answers are JSON; errors are {"error": text}. Nothing is
// authenticated: listen on loopback.
//
//	GET  /sim/realms                      the ids
//	POST /sim/realms                      {"id"}: a new company
//	POST /sim/realms/{realm}/authorize    {"realmId","code"} for the token endpoint
//	POST /sim/realms/{realm}/expire       its access tokens expire now
//	POST /sim/realms/{realm}/revoke       all its tokens end
//	POST /sim/change                      {"operation","realm","entity","id","mergedId","silent","fields"}; the record
//	                                      create update delete harddelete deactivate void email merge derive
//	POST /sim/forge                       {"realm","entity","id","at"}: a webhook claims a deletion, see [Sim.ForgeDelete]
//	POST /sim/unknown                     {"realm","count"}: webhook events of a company that is no realm here
//	POST /sim/populate                    {"realm"}: a record of each entity that it has none of
//	POST /sim/step                        {"realm","count"}: drawn changes; their records
//	GET  /sim/truth?realm=                the latest state of each record
//	GET  /sim/history?realm=&entity=&id=  all states of one record, oldest first
//	GET  /sim/stats                       a [Stats]
//	GET  /sim/faults, PUT /sim/faults     a [Faults], durations as "1.5s"
//	GET  /sim/recorded                    the recorded responses that "refuse" can name
//	GET  /sim/subscriptions, PUT …        {"unselected":["invoice.update"]}: event types that are not ticked
//	POST /sim/load                        outages count from now
//	PUT  /sim/webhook                     {"url"}: the app's endpoint
//	POST /sim/flush                       sends what is queued; at most 30 s
//	GET  /sim/settled                     true or false
package qbosim
