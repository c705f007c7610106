// Package telemetry is how a service is seen from outside: the logger, the keys
// its log lines use, traces, and the admin endpoint with health, metrics and
// profiles.
//
// It guarantees that every log key is defined in one place and that the admin
// endpoint answers on a port of its own, so that it is never exposed with the
// public one by accident.
//
// It holds no global state: loggers, registries and tracers are made in main and
// handed on. It ships nothing but traces, and those only where an endpoint is
// set.
package telemetry
