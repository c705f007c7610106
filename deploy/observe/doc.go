// Package observe holds the tests of the alerts and dashboards: each expression is
// parsed by Prometheus itself, and asks for metrics and labels that there are.
package observe
