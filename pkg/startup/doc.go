// Package startup answers for a program that starts while a server it needs is away.
//
// It guarantees that the admin endpoint is open from the beginning: /livez says that the
// process is alive, and /readyz what is missing, so that an orchestrator takes the replica
// out of its load balancer and does not restart it. What waits goes on once the server
// answers. It decides nothing about errors: who waits says which are worth it.
package startup
