package telemetry

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// AdminConfig is the admin endpoint as an operator sets it.
type AdminConfig struct {
	Listen string `koanf:"listen" doc:"address of /livez, /readyz, /metrics and /debug/pprof; keep it off the internet; off turns it off"`
}

// DefaultAdminConfig listens on the loopback interface, port 9090.
func DefaultAdminConfig() AdminConfig { return AdminConfig{Listen: "127.0.0.1:9090"} }

// AdminOptions is what [NewAdmin] needs.
type AdminOptions struct {
	Listen   string
	Gatherer prometheus.Gatherer
	Ready    func(ctx context.Context) error
	Logger   *zap.Logger
}

// Admin is the admin endpoint.
type Admin struct{}

// NewAdmin listens.
func NewAdmin(AdminOptions) (*Admin, error) { return nil, errors.ErrUnsupported }

// Addr is where it listens.
func (a *Admin) Addr() string { return "" }

// Run serves until ctx ends.
func (a *Admin) Run(ctx context.Context) error { <-ctx.Done(); return nil }
