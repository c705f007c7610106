// Package devtest gives a test real servers: NATS and Redis inside the process,
// and redis-server and PostgreSQL as processes of its own.
//
// Every server a test gets is fresh and its own (PostgreSQL: its own database),
// listens on the loopback interface only, is named in the test's log and ends
// with the test, or with the test process if that is killed. A missing binary
// fails the test with what to install; nothing is skipped.
//
// It is for tests only: production code must not import it.
package devtest
