package doctor

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// probeBody is a notification without events: it is verified and stored as nothing.
var probeBody = []byte("[]")

const (
	maxDrain = 4 << 10
	// lateTries in a row without an answer end the probing: each takes Intuit's patience.
	lateTries = 3
)

// post sends the probe as Intuit would, and returns the status and how long it took.
func (x *exam) post(ctx context.Context, client *http.Client, signature string) (code int, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, x.Patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, x.PublicURL.String(), bytes.NewReader(probeBody))
	if err != nil {
		return 0, 0, errors.New("the URL cannot be used")
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("User-Agent", "ledgerfeed-doctor")
	req.Header.Set(webhook.SignatureHeader, signature)
	begun := time.Now()
	resp, err := client.Do(req)
	took = time.Since(begun)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return 0, took, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxDrain)) // so that the connection is used again
	return resp.StatusCode, took, nil
}

func (x *exam) client() *http.Client {
	return &http.Client{
		Transport: &http.Transport{DialContext: x.Dial, TLSClientConfig: x.tlsConfig(tls.VersionTLS12), ForceAttemptHTTP2: true},
		// Intuit follows no redirect either: it is not 200.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// forged sends a body that Intuit did not sign.
func (x *exam) forged(ctx context.Context) {
	client := x.client()
	defer client.CloseIdleConnections()
	code, _, err := x.post(ctx, client, webhook.Sign(probeBody, secret.String(rand.Text())))
	switch {
	case err != nil:
		x.fail(checkForged, "see the checks above and the log of the ingress", "a forged notification was not answered: %v", err)
	case code == http.StatusUnauthorized:
		x.ok(checkForged, "a forged notification is answered 401")
	case code == http.StatusOK:
		x.fail(checkForged, "find out what answers at this URL: it believes anybody", "a forged notification is answered 200")
	default:
		x.fail(checkForged, "let the URL lead to /webhooks/NAME of the ingress", "a forged notification is answered %s, and not 401", status(code))
	}
}

// probes sends signed bodies one after the other.
func (x *exam) probes(ctx context.Context, token secret.String) {
	if token == "" {
		x.skip(checkProbe, "set LEDGERFEED_INGRESS_APPS as the ingress has it, or give --token-file with the verifier token", "no signed notification sent")
		return
	}
	client := x.client()
	defer client.CloseIdleConnections()
	signature := webhook.Sign(probeBody, token)
	var times []time.Duration
	late := 0
	for range x.Tries {
		code, took, err := x.post(ctx, client, signature)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, context.DeadlineExceeded):
			if late++; late == lateTries {
				x.fail(checkProbe, "see ledgerfeed_ingress_ack_seconds and the latency of the broker's disk, and what stands in front of the ingress",
					"%d of %d signed notifications had no answer within %s: Intuit counts them as failed", late, len(times)+late, x.Patience)
				return
			}
			continue
		case err != nil:
			x.fail(checkProbe, "see the log of the ingress and of what stands in front of it", "a signed notification was not answered: %v", err)
			return
		case code == http.StatusUnauthorized:
			x.fail(checkProbe, "copy the verifier token of this app and environment from the Webhooks page of Intuit's portal to LEDGERFEED_INGRESS_APPS; see that no proxy changes the body",
				"a notification signed with the verifier token is answered 401: the ingress has another token")
			return
		case code != http.StatusOK:
			x.fail(checkProbe, "let the URL lead to /webhooks/NAME of the ingress, without a redirect; see its log", "a signed notification is answered %s, and not 200", status(code))
			return
		}
		times = append(times, took)
	}
	x.judge(times, late)
}

func (x *exam) judge(times []time.Duration, late int) {
	slices.Sort(times)
	at := func(q float64) time.Duration {
		return times[int(q*float64(len(times)-1))].Round(100 * time.Microsecond)
	}
	p50, p99 := at(.5), at(.99)
	do := "see ledgerfeed_ingress_ack_seconds, the latency of the broker's disk, and what stands in front of the ingress"
	switch {
	case late > 0:
		x.fail(checkProbe, do, "%d of %d signed notifications had no answer within %s; of the others p50 %s, p99 %s", late, len(times)+late, x.Patience, p50, p99)
	case p99 > x.Patience/2:
		x.warn(checkProbe, do, "%d signed notifications answered 200, but p99 %s is more than half of the %s that Intuit waits (p50 %s)", len(times), p99, x.Patience, p50)
	default:
		x.ok(checkProbe, "%d signed notifications answered 200: p50 %s, p99 %s of %s", len(times), p50, p99, x.Patience)
	}
}
