package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"code.dny.dev/ssrf"
)

// Reach asks the endpoint for its headers (HEAD), as far as the rules on
// addresses let it; it delivers nothing. Any answer but a server's error is good:
// many endpoints know only POST.
func (s *Sink) Reach(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, s.o.URL, nil)
	if err != nil {
		return errors.New("reach the endpoint: its URL cannot be used")
	}
	req.Header.Set("User-Agent", "ledgerfeed")
	resp, err := s.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL, whose query may hold a token
		}
		if errors.Is(err, ssrf.ErrProhibitedIP) {
			return fmt.Errorf("its address is not public, which processor.webhook_allow does not allow: %w", err)
		}
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusInternalServerError && resp.StatusCode != http.StatusNotImplemented {
		return fmt.Errorf("the endpoint answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	return nil
}
