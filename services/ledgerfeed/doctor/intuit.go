package doctor

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"
)

const checkClock = "clock"

// How far the clocks may be apart. Cursors go by Intuit's clock alone; ours decides
// when a token is refreshed and what an age is.
const (
	skewWarn = 5 * time.Second
	skewFail = time.Minute
)

// intuit compares the clocks by the Date of an answer of the API, whatever its status.
func (x *exam) intuit(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, x.Config.QBO.BaseURL, nil)
	if err != nil {
		x.fail(checkClock, "correct qbo.base_url", "qbo.base_url cannot be used")
		return
	}
	begun := x.Now()
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		x.fail(checkClock, "let this network reach the API: changes are read there", "%s does not answer: %v", x.Config.QBO.BaseURL, err)
		return
	}
	resp.Body.Close()
	ended := x.Now()
	theirs, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		x.warn(checkClock, "see that no proxy answers for the API", "%s does not say what time it is", x.Config.QBO.BaseURL)
		return
	}
	// Date has whole seconds, cut off; the answer was written between begun and ended.
	skew := time.Duration(0)
	switch {
	case ended.Before(theirs):
		skew = ended.Sub(theirs)
	case begun.After(theirs.Add(time.Second)):
		skew = begun.Sub(theirs.Add(time.Second))
	}
	switch skew = skew.Round(100 * time.Millisecond); {
	case skew.Abs() >= skewFail:
		x.fail(checkClock, "start an NTP client: tokens are refreshed too late or too early", "our clock is %s off Intuit's", skew)
	case skew.Abs() >= skewWarn:
		x.warn(checkClock, "start an NTP client", "our clock is %s off Intuit's", skew)
	default:
		x.ok(checkClock, "%s answers, and the clocks agree within %s", x.Config.QBO.BaseURL, skewWarn)
	}
}
