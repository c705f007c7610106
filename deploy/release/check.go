package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

func checkVersion(version string) error {
	if !semver.IsValid(version) || semver.Canonical(version) != version {
		return fmt.Errorf("version %q: give one such as VERSION=v0.1.0 or v0.2.0-rc.1", version)
	}
	return nil
}

// check returns the notes, or everything that speaks against the release.
func (o options) check(ctx context.Context, modules []releasedModule) (notes string, err error) {
	var errs []error
	fail := func(err error) { errs = append(errs, err) }
	changed, err := command(ctx, o.root, nil, "git", "status", "--porcelain")
	switch {
	case err != nil:
		return "", err
	case changed != "":
		fail(fmt.Errorf("the working tree has changes, commit them first:\n%s", changed))
	}
	existing, err := command(ctx, o.root, nil, "git", "tag", "--list")
	if err != nil {
		return "", err
	}
	tags := strings.Fields(existing)
	for _, tag := range tags {
		if semver.IsValid(tag) && semver.Compare(tag, o.version) > 0 {
			fail(fmt.Errorf("%s is there already, which is newer than %s", tag, o.version))
		}
	}
	if slices.Contains(tags, o.version) {
		fail(fmt.Errorf("the tag %s exists", o.version))
	}
	for _, m := range modules {
		// A module of major version 2 has another path.
		if err := module.Check(m.path, o.version); err != nil {
			fail(err)
		}
		if !strings.HasSuffix(m.path, "/"+m.dir) {
			fail(fmt.Errorf("module %s is in %s: its tag would not be found", m.path, m.dir))
		}
		if slices.Contains(tags, m.tag(o.version)) {
			fail(fmt.Errorf("the tag %s exists", m.tag(o.version)))
		}
	}
	page, err := os.ReadFile(filepath.Join(o.root, "docs", "changelog.md"))
	if err != nil {
		return "", err
	}
	if notes = section(string(page), o.version); !strings.Contains("\n"+notes, "\n- ") {
		fail(fmt.Errorf("docs/changelog.md has no entries for %s: rename its section Unreleased to '%[1]s - DATE' and begin another one", o.version))
	}
	return notes, errors.Join(errs...)
}

// section is the text of a version on the page, without its heading.
func section(page, version string) string {
	heading := regexp.MustCompile(`(?m)^## ` + regexp.QuoteMeta(version) + `( .*)?\n`).FindStringIndex(page)
	if heading == nil {
		return ""
	}
	text, _, _ := strings.Cut(page[heading[1]:], "\n## ")
	return strings.TrimSpace(text) + "\n"
}
