// Package e2e runs the ledgerfeed binary as a user would and compares what it
// leaves behind with the simulated books. It holds tests only.
package e2e
