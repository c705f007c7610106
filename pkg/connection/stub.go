// Package connection keeps the connected realms and their tokens.
package connection

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

var (
	ErrNotConnected   = errors.New("realm not connected")
	ErrReauthRequired = errors.New("authorisation required again")
)

type State string

const (
	Live           State = "live"
	ReauthRequired State = "reauth_required"
	Disconnected   State = "disconnected"
)

type Connection struct {
	RealmID     string
	App         string
	State       State
	Reason      string
	ConnectedAt time.Time
	ChangedAt   time.Time
	LapsedAt    time.Time
	Generation  int64
	Token       qbo.Token
}

type Refresher interface {
	Refresh(ctx context.Context, refresh secret.String) (qbo.Token, error)
}

type Config struct {
	Keys []secret.String `koanf:"keys" doc:"keys for the tokens in Redis, id:base64 of 32 bytes; the first encrypts, all decrypt"`
}

func (c Config) Validate() error { return nil }

type Options struct {
	State        *state.Store
	Config       Config
	Refresher    Refresher
	Now          func() time.Time
	Logger       *zap.Logger
	RefreshAhead time.Duration
}

type Store struct{}

func New(o Options) (*Store, error) { return &Store{}, nil }

func (s *Store) Connect(ctx context.Context, realm, app string, t qbo.Token) error { return nil }
func (s *Store) Get(ctx context.Context, realm string) (Connection, error)         { return Connection{}, nil }
func (s *Store) List(ctx context.Context) ([]string, error)                        { return nil, nil }
func (s *Store) SetState(ctx context.Context, realm string, to State, reason string) error {
	return nil
}
func (s *Store) Disconnect(ctx context.Context, realm string) error             { return nil }
func (s *Store) Known(ctx context.Context, realm string) (State, error)         { return "", nil }
func (s *Store) Token(ctx context.Context, realm string) (secret.String, error) { return "", nil }
func (s *Store) Rejected(ctx context.Context, realm string, token secret.String) error {
	return nil
}
