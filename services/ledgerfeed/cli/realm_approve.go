package cli

import (
	"context"
)

type realmApproveCmd struct {
	realmChoice `embed:""`
}

// Help is the long help of the command.
func (realmApproveCmd) Help() string {
	return `Connects companies whose consents wait for approval (connect.approve), and makes them due for a scan at once. Until
then nothing is read of a new company; a company that is connected keeps its tokens. ledgerfeed realm ls --state
pending_approval lists the new ones, ledgerfeed realm show ID shows a consent that waits.

Examples:
  ledgerfeed realm approve 9341453000000001
  ledgerfeed realm approve 9341453000000001 9341453000000002 --yes`
}

// Run approves.
func (c *realmApproveCmd) Run(ctx context.Context, p process) error {
	return c.run(ctx, p, realmAction{verb: "approve", done: "approved", do: func(ctx context.Context, s *servers, id string) (string, error) {
		return "", s.connections.Approve(ctx, id)
	}})
}

type realmRejectCmd struct {
	realmChoice `embed:""`
}

// Help is the long help of the command.
func (realmRejectCmd) Help() string {
	return `Gives consents that wait for approval back to Intuit and forgets them. A company that is connected keeps its
connection; a new one is disconnected. If Intuit does not answer the consent waits on.

Examples:
  ledgerfeed realm reject 9341453000000001`
}

// Run rejects.
func (c *realmRejectCmd) Run(ctx context.Context, p process) error {
	return c.run(ctx, p, realmAction{verb: "reject", done: "rejected", do: func(ctx context.Context, s *servers, id string) (string, error) {
		confirmed, err := s.connections.Reject(ctx, id, s.oauth)
		if err != nil {
			return "", err
		}
		return unconfirmedNote(confirmed), nil
	}})
}
