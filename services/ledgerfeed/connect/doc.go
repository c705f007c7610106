// Package connect lets people connect their QuickBooks companies: the OAuth flow
// with its pages, the disconnect, and the import of tokens that another program got.
// It is a group of routes for an echo server:
//
//	GET  /connect                     sends the browser to Intuit; ?realm=ID or ?realmId=ID connects that company anew
//	GET  /connect/callback            what Intuit comes back to (qbo.redirect_url)
//	GET  /disconnected                where Intuit sends an owner who has disconnected; ?realmId=ID has its token checked
//	GET  /realms/:realm/disconnect    asks whether to
//	POST /realms/:realm/disconnect    revokes at Intuit, forgets the tokens; cursors and marks stay
//	POST /realms/:realm/token         {"refresh_token", "app"}: imports one
//	POST /tokens                      imports many: CSV or JSON lines, answered line by line
//
// A client that accepts application/json and not text/html gets JSON, the others
// get pages without a script.
//
// # What it guarantees
//
// A state is good once, for a quarter of an hour, and in the browser it was given
// to: a link that somebody else sends connects nothing. With PKCE the code is bound
// to that browser, too. Redis holds no secret of a consent under way, and any replica
// can take the callback. The company of the callback is asked for its name with the
// new token before it is stored: without an answer nothing is stored, and the consent
// is given back, unless that would end a connection that works. Requests that change
// something are refused when they come from the page of another site.
// A company may have to be on a list ([Config.Allow]), and its consent to wait for a
// person ([Config.Approve]). A working connection of another app is not replaced.
// Every bad input has a page that says what to do. No token, code or state is logged.
//
// # What it does not do
//
// It does not know who is asking. Whoever may open the management routes may
// disconnect every company: put a login in front of [Handler.Register], and let the
// internet reach no more than [Handler.RegisterPublic].
package connect
