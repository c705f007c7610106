package tokenimport

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
)

// Rescue appends a token that could not be stored to a file that only its owner can
// read, in the form that [Parse] reads, and returns when it is on the disk.
func Rescue(path string, r Result) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("rescue the token of realm %s: %w", r.Realm, err)
	}
	text, err := json.Marshal(map[string]string{"realm": r.Realm, "refresh_token": r.Token.Refresh.Reveal(), "app": r.App})
	if err == nil {
		_, err = file.Write(append(text, '\n'))
	}
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("rescue the token of realm %s: %w", r.Realm, err)
	}
	return nil
}

// WithRescued returns the lines with the tokens that earlier runs had to rescue in the
// place of those they came from, and the companies those are of; what was rescued of
// other companies comes behind. A file that is not there changes nothing.
func WithRescued(lines []Line, path string) ([]Line, map[string]bool, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return lines, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	found, err := Parse(file)
	if err != nil {
		return nil, nil, err
	}
	newest := map[string]Line{}
	for _, l := range found {
		// Rescued twice, the later one counts; Parse calls that an error.
		if l.Realm != "" && l.Refresh != "" {
			newest[l.Realm] = Line{Realm: l.Realm, Refresh: l.Refresh, App: l.App}
		}
	}
	rescued := map[string]bool{}
	all := make([]Line, 0, len(lines)+len(newest))
	for _, l := range lines {
		if r, ok := newest[l.Realm]; ok && l.Err == nil {
			l.Refresh, rescued[l.Realm] = r.Refresh, true
		}
		all = append(all, l)
	}
	for _, realm := range slices.Sorted(maps.Keys(newest)) {
		if !rescued[realm] {
			rescued[realm] = true
			all = append(all, newest[realm])
		}
	}
	return all, rescued, nil
}
