// Package e2e runs the stack of docker-compose.yml as it is, on a real container
// engine, makes its life hard, and compares the database with the simulated
// QuickBooks. `make e2e-compose` runs it.
//
// Where no registry can be reached, the upstream images are stand-ins made on
// this machine; its output says which.
package e2e
