package state

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"
)

// Company is what is known of a realm's company. An empty text is not known.
type Company struct {
	Realm           string    `json:"realm"`
	Name            string    `json:"name,omitempty"`
	LegalName       string    `json:"legal_name,omitempty"`
	Country         string    `json:"country,omitempty"`
	HomeCurrency    string    `json:"home_currency,omitempty"`
	FiscalYearStart string    `json:"fiscal_year_start,omitempty"`
	TimeZoneOffset  string    `json:"time_zone_offset,omitempty"`
	ReadAt          time.Time `json:"read_at,omitzero"` // by our clock, when QuickBooks last said so
	// Asked is when a scan last asked for it alone, whatever came of that.
	Asked time.Time `json:"-"`
}

// maxCompanyText bounds each text of a company, in bytes.
const maxCompanyText = 512

// companiesKey is of the realms whose company was read, by when.
const companiesKey = durable + "companies:{app}"

// texts are the fields of the hash.
func (c Company) texts() map[string]string {
	return map[string]string{
		"name": c.Name, "legal": c.LegalName, "country": c.Country, "currency": c.HomeCurrency,
		"fiscal": c.FiscalYearStart, "offset": c.TimeZoneOffset,
	}
}

// SetCompany records what is known of a company; what is empty in c stays as it was.
func (s *Store) SetCompany(ctx context.Context, c Company) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	fields := []any{}
	for field, text := range c.texts() {
		if text != "" {
			fields = append(fields, field, cut(text))
		}
	}
	if len(fields) == 0 {
		return nil
	}
	fields = append(fields, "read", millis(c.ReadAt))
	if err := s.db.HSet(ctx, Key("company", c.Realm), fields...).Err(); err != nil {
		return fmt.Errorf("record the company of realm %s: %w", c.Realm, err)
	}
	// After the hash: whoever reads the list finds what it announces. A crash in between is
	// made up for by the next reading.
	if err := s.db.ZAdd(ctx, companiesKey, redis.Z{Score: float64(millis(c.ReadAt)), Member: c.Realm}).Err(); err != nil {
		return fmt.Errorf("record the company of realm %s: %w", c.Realm, err)
	}
	return nil
}

// cut is a text within its bound.
func cut(text string) string {
	if len(text) <= maxCompanyText {
		return text
	}
	text = text[:maxCompanyText]
	for !utf8.ValidString(text) {
		text = text[:len(text)-1]
	}
	return text
}

// SetCompanyAsked records that a scan asks for the company.
func (s *Store) SetCompanyAsked(ctx context.Context, realm string, at time.Time) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.db.HSet(ctx, Key("company", realm), "asked", millis(at)).Err(); err != nil {
		return fmt.Errorf("record the company of realm %s: %w", realm, err)
	}
	return nil
}

// Companies returns what is known of the companies of realms, in their order; of one that
// was never read only the realm is set.
func (s *Store) Companies(ctx context.Context, realms []string) ([]Company, error) {
	all := make([]Company, 0, len(realms))
	for part := range slices.Chunk(realms, batch) {
		some, err := s.companies(ctx, part)
		if err != nil {
			return nil, fmt.Errorf("read the companies of %d realms: %w", len(realms), err)
		}
		all = append(all, some...)
	}
	return all, nil
}

func (s *Store) companies(ctx context.Context, realms []string) ([]Company, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	reads := make([]*redis.MapStringStringCmd, len(realms))
	pipe := s.db.Pipeline()
	for i, realm := range realms {
		reads[i] = pipe.HGetAll(ctx, Key("company", realm))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	all := make([]Company, len(realms))
	for i, realm := range realms {
		f := reads[i].Val()
		all[i] = Company{
			Realm: realm, Name: f["name"], LegalName: f["legal"], Country: f["country"], HomeCurrency: f["currency"],
			FiscalYearStart: f["fiscal"], TimeZoneOffset: f["offset"], ReadAt: parseMillis(f["read"]), Asked: parseMillis(f["asked"]),
		}
	}
	return all, nil
}

func parseMillis(text string) time.Time {
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return fromMillis(ms)
}

// CompanyNames returns the names of the companies of realms, where they are known.
func (s *Store) CompanyNames(ctx context.Context, realms []string) (map[string]string, error) {
	realms = slices.Compact(slices.Sorted(slices.Values(realms)))
	all, err := s.Companies(ctx, realms)
	names := make(map[string]string, len(all))
	for _, c := range all {
		if c.Name != "" {
			names[c.Realm] = c.Name
		}
	}
	return names, err
}

// CompaniesRead returns the realms whose company was read since then, the earliest first,
// up to n.
func (s *Store) CompaniesRead(ctx context.Context, since time.Time, n int) ([]RealmTime, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	zs, err := s.db.ZRangeArgsWithScores(ctx, redis.ZRangeArgs{
		Key: companiesKey, ByScore: true, Start: millis(since), Stop: "+inf", Count: int64(n),
	}).Result()
	if err != nil {
		return nil, fmt.Errorf("list companies by time of reading: %w", err)
	}
	realms := make([]RealmTime, len(zs))
	for i, z := range zs {
		realms[i].Realm, _ = z.Member.(string)
		realms[i].At = fromMillis(int64(z.Score))
	}
	return realms, nil
}
