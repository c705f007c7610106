// Package backend opens what a service that reads QuickBooks stands on: Redis,
// the broker, the connected realms, the API client under the shared limiter, and
// the admin endpoint.
//
// It guarantees that the parts are opened in the order they stand on each other
// and closed in the reverse one, also after a start that failed half way, and
// that a server that does not answer is waited for, while /readyz names it. Secrets
// that change are given to the parts that use them. It holds no logic of any
// service. The ingress does not use it: it must not touch Redis.
package backend
