// Package docs makes the pages that are generated from the code:
// docs/configuration.md from the Config structs of the services, docs/responses.md
// from the table of responses, and the section on event types of docs/webhooks.md
// from the table of entities.
//
// Its test fails when a page is out of date and rewrites it with -update. It
// guarantees that a page names every setting, its default and its
// documentation, and nothing else. It writes no prose.
package docs
