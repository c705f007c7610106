package tokenimport

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// Line is a company of the file.
type Line struct {
	N       int // from 1
	Realm   string
	Refresh secret.String
	App     string // "" for the default
	// Err says what is wrong with it; it quotes no token.
	Err error
}

const (
	maxLine  = 64 << 10
	maxLines = 1_000_000
)

var realmID = regexp.MustCompile(`^[0-9]{1,32}$`)

// Parse reads lines of JSON, {"realm": "…", "refresh_token": "…", "app": "…"}, or of
// CSV: realm,refresh_token or realm,refresh_token,app, with or without a heading that
// may name the columns in another order. app may be missing. Empty lines and those
// that begin with # are left out. An error is about the file as a whole.
func Parse(r io.Reader) ([]Line, error) {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(make([]byte, 0, 4<<10), maxLine)
	p := parser{seen: map[string]int{}}
	for n := 1; scanner.Scan(); n++ {
		text := bytes.TrimSpace(bytes.TrimPrefix(scanner.Bytes(), []byte("\ufeff")))
		if len(text) == 0 || text[0] == '#' {
			continue
		}
		if len(p.lines) == maxLines {
			return nil, fmt.Errorf("more than %d lines: split the file", maxLines)
		}
		p.add(n, text)
	}
	if errors.Is(scanner.Err(), bufio.ErrTooLong) {
		return nil, fmt.Errorf("a line is longer than %d bytes: give CSV or JSON lines, a company a line", maxLine)
	}
	if err := scanner.Err(); err != nil {
		return nil, err
	}
	return p.lines, nil
}

type parser struct {
	lines   []Line
	columns map[string]int // of CSV; nil until the first line of it
	seen    map[string]int // realm → line
}

func (p *parser) add(n int, text []byte) {
	var l Line
	if text[0] == '{' {
		l = parseJSON(text)
	} else {
		fields, err := csv.NewReader(bytes.NewReader(text)).Read()
		if p.columns == nil {
			if columns, ok := heading(fields); ok {
				p.columns = columns
				return
			}
			p.columns = map[string]int{"realm": 0, "refresh": 1, "app": 2}
		}
		l = p.parseCSV(fields, err)
	}
	l.N = n
	switch first, twice := p.seen[l.Realm]; {
	case l.Err != nil:
	case !realmID.MatchString(l.Realm):
		l.Err = errors.New("the company id (realmId) is not digits only")
	case l.Refresh == "":
		l.Err = errors.New("the refresh token is empty")
	case twice:
		l.Err = fmt.Errorf("the company is on line %d already", first)
	default:
		p.seen[l.Realm] = n
	}
	p.lines = append(p.lines, l)
}

func parseJSON(text []byte) Line {
	var wire struct {
		Realm   string `json:"realm"`
		Refresh string `json:"refresh_token"`
		App     string `json:"app"`
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	// Its errors could quote what is there.
	if err := d.Decode(&wire); err != nil || d.More() {
		return Line{Err: errors.New(`it is no JSON object with the strings "realm", "refresh_token" and perhaps "app" alone`)}
	}
	return Line{Realm: strings.TrimSpace(wire.Realm), Refresh: secret.String(strings.TrimSpace(wire.Refresh)), App: strings.TrimSpace(wire.App)}
}

func (p *parser) parseCSV(fields []string, err error) Line {
	if err != nil || len(fields) < 2 || len(fields) > 3 {
		return Line{Err: errors.New("it is no CSV of realm,refresh_token or realm,refresh_token,app")}
	}
	field := func(name string) string {
		if i, ok := p.columns[name]; ok && i < len(fields) {
			return strings.TrimSpace(fields[i])
		}
		return ""
	}
	return Line{Realm: field("realm"), Refresh: secret.String(field("refresh")), App: field("app")}
}

// heading reads the names of the columns, as people spell them.
func heading(fields []string) (map[string]int, bool) {
	columns := map[string]int{}
	for i, f := range fields {
		name := strings.NewReplacer("_", "", "-", "", " ", "").Replace(strings.ToLower(strings.TrimSpace(f)))
		switch name {
		case "realm", "realmid", "companyid":
			columns["realm"] = i
		case "refresh", "refreshtoken", "token":
			columns["refresh"] = i
		case "app":
			columns["app"] = i
		}
	}
	_, realm := columns["realm"]
	_, refresh := columns["refresh"]
	return columns, realm && refresh
}
