// Package qbosim is a QuickBooks Online in process.
package qbosim

import (
	"context"
	"net/http"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// Sim is a simulated QuickBooks.
type Sim struct{}

func New(o Options) (*Sim, error)                                              { return &Sim{}, o.setDefaults() }
func (s *Sim) Handler() http.Handler                                           { return http.NotFoundHandler() }
func (s *Sim) Run(ctx context.Context) error                                   { <-ctx.Done(); return nil }
func (s *Sim) Close() error                                                    { return nil }
func (s *Sim) AddRealm(id string)                                              {}
func (s *Sim) Realms() []string                                                { return nil }
func (s *Sim) SetWebhookURL(url string)                                        {}
func (s *Sim) Authorize(realm string) (code string)                            { return "" }
func (s *Sim) Connect(realm string) (access, refresh secret.String)            { return "", "" }
func (s *Sim) ExpireAccess(realm string)                                       {}
func (s *Sim) RevokeRealm(realm string)                                        {}
func (s *Sim) Create(realm, entity string, fields map[string]any) (Ref, error) { return Ref{}, nil }
func (s *Sim) Update(ref Ref, fields map[string]any) error                     { return nil }
func (s *Sim) Delete(ref Ref) error                                            { return nil }
func (s *Sim) HardDelete(ref Ref) error                                        { return nil }
func (s *Sim) Deactivate(ref Ref) error                                        { return nil }
func (s *Sim) Void(ref Ref) error                                              { return nil }
func (s *Sim) Email(ref Ref) error                                             { return nil }
func (s *Sim) Merge(survivor, merged Ref) error                                { return nil }
func (s *Sim) Step(realm string) (Ref, error)                                  { return Ref{}, nil }
func (s *Sim) BeginLoad()                                                      {}
func (s *Sim) SetFaults(f Faults)                                              {}
func (s *Sim) Faults() Faults                                                  { return Faults{} }
func (s *Sim) Truth(realm string) map[Ref]State                                { return nil }
func (s *Sim) History(ref Ref) []State                                         { return nil }
func (s *Sim) Settled() bool                                                   { return true }
func (s *Sim) FlushWebhooks(ctx context.Context) error                         { return nil }
func (s *Sim) Stats() Stats                                                    { return Stats{} }
