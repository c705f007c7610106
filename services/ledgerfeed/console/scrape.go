package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

const (
	scrapeTime = 3 * time.Second
	maxScraped = 8 << 20
)

// scraper asks each address for its metrics. A name that stands for several replicas
// is asked at each of them.
func scraper(urls []string) func(context.Context) ([]*dto.MetricFamily, error) {
	client := &http.Client{Timeout: scrapeTime}
	return func(ctx context.Context) ([]*dto.MetricFamily, error) {
		var all []*dto.MetricFamily
		var errs []error
		for _, raw := range urls {
			for _, address := range replicas(ctx, raw) {
				found, err := scrapeOne(ctx, client, address)
				all, errs = append(all, found...), append(errs, err)
			}
		}
		return all, errors.Join(errs...)
	}
}

// replicas are the addresses that the name in a URL stands for; the URL itself where
// it has but one, or TLS, whose certificate is for the name.
func replicas(ctx context.Context, raw string) []string {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" {
		return []string{raw}
	}
	addresses, err := net.DefaultResolver.LookupHost(ctx, u.Hostname())
	if err != nil || len(addresses) < 2 || u.Hostname() == "localhost" {
		return []string{raw}
	}
	var all []string
	for _, a := range addresses {
		one := *u
		one.Host = net.JoinHostPort(a, cmp.Or(u.Port(), "80"))
		all = append(all, one.String())
	}
	return all
}

func scrapeOne(ctx context.Context, client *http.Client, address string) ([]*dto.MetricFamily, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", address, resp.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(io.LimitReader(resp.Body, maxScraped))
	var all []*dto.MetricFamily
	for _, f := range families {
		all = append(all, f)
	}
	return all, err
}

// bucket is how many observations are at most that long.
type bucket struct{ upTo, count float64 }

// histogram is sorted by upTo.
type histogram []bucket

// histogramOf adds up all series of a name.
func histogramOf(families []*dto.MetricFamily, name string) histogram {
	counts := map[float64]float64{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, b := range m.GetHistogram().GetBucket() {
				counts[b.GetUpperBound()] += float64(b.GetCumulativeCount())
			}
		}
	}
	var h histogram
	for upTo, n := range counts {
		h = append(h, bucket{upTo, n})
	}
	slices.SortFunc(h, func(a, b bucket) int { return cmp.Compare(a.upTo, b.upTo) })
	return h
}

// since is what came after before; all of it after a restart. Without a before there
// is nothing.
func (h histogram) since(before histogram) histogram {
	if len(before) == 0 {
		return nil
	}
	if len(h) != len(before) {
		return h
	}
	d := make(histogram, len(h))
	for i := range h {
		if d[i] = (bucket{h[i].upTo, h[i].count - before[i].count}); d[i].count < 0 {
			return h
		}
	}
	return d
}

// quantile interpolates as Prometheus does; false without observations. Above the last
// bound it is the last bound.
func (h histogram) quantile(q float64) (float64, bool) {
	if len(h) == 0 || h[len(h)-1].count == 0 {
		return 0, false
	}
	rank := q * h[len(h)-1].count
	lower, below := 0.0, 0.0
	for i, b := range h {
		if b.count >= rank && b.count > below {
			if b.upTo > 1e300 {
				return lower, i > 0
			}
			return lower + (b.upTo-lower)*(rank-below)/(b.count-below), true
		}
		lower, below = b.upTo, b.count
	}
	return lower, true
}

// gauge is the largest value of a series of a name with a label; false without one.
func gauge(families []*dto.MetricFamily, name, label, value string) (most float64, ok bool) {
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == label && l.GetValue() == value {
					most, ok = max(most, m.GetGauge().GetValue()), true
				}
			}
		}
	}
	return most, ok
}
