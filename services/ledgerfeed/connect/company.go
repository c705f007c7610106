package connect

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// CompanyName is Options.Company by the API of cfg. It is outside of the limits and of
// the budget of calls: a month whose calls are used up must not keep anybody from
// connecting a company.
func CompanyName(cfg qbo.Config) func(context.Context, string, qbo.Token) (string, error) {
	return func(ctx context.Context, realm string, token qbo.Token) (string, error) {
		client, err := cfg.Client(one{token.Access}, nil, nil)
		if err != nil {
			return "", err
		}
		info, _, err := client.Read(ctx, realm, "CompanyInfo", "")
		if err != nil {
			return "", fmt.Errorf("read the company: %w", err)
		}
		var company struct{ CompanyName string }
		if err := json.Unmarshal(info.Raw, &company); err != nil {
			return "", fmt.Errorf("read the company: %w", err)
		}
		return company.CompanyName, nil
	}
}

// one is the source of a token that is not stored yet.
type one struct{ access secret.String }

func (o one) Token(context.Context, string) (secret.String, error)  { return o.access, nil }
func (o one) Rejected(context.Context, string, secret.String) error { return nil }
