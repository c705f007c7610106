package docs_test

import (
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/docs"
)

const (
	maxColumns = 100
	maxWords   = 25 // of a cell
)

var (
	// oldStyle are words of a dialect that readers do not know.
	oldStyle = regexp.MustCompile(`(?i)\b(anew|whoever|in hand|(is|are) none|(tells?|told) of|comes? again|mend(s|ed|ing)?|` +
		`those that|the books|waits? aside|some [0-9.,]+ [KMG]i?B)\b`)
	namesTest  = regexp.MustCompile(`\b(Test|Fuzz)[A-Z]\w+`)
	linkTarget = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	cellBorder = regexp.MustCompile(`[^\\]\|`)
	heading    = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notInSlug  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

	// Their lines hold the texts of settings and metrics, which may be longer.
	generatedPages = []string{"configuration.md", "metrics.md"}
	// Who reads these looks for tests, too.
	engineersPages = []string{"architecture.md", "development.md", "security.md"}
)

// eachPage calls what with the README and every page under docs.
func eachPage(t *testing.T, what func(t *testing.T, name, text string)) {
	t.Helper()
	names := []string{filepath.Join(root, "README.md")}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && filepath.Ext(path) == ".md" {
			names = append(names, path)
		}
		return err
	})
	require.NoError(t, err)
	require.Greater(t, len(names), 40)
	for _, name := range names {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		short, err := filepath.Rel(root, name)
		require.NoError(t, err)
		t.Run(filepath.ToSlash(short), func(t *testing.T) { what(t, name, string(text)) })
	}
}

// prose are the lines of a page by their number, without code, comments and what a
// measurement wrote between two of them.
func prose(text string) map[int]string {
	lines := map[int]string{}
	code, measured := false, false
	n := 0
	for line := range strings.Lines(text) {
		n++
		trimmed := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(trimmed, "```"):
			code = !code
		case strings.HasPrefix(trimmed, "<!--"):
			measured = strings.Contains(trimmed, ": begin")
		case code, measured, trimmed == "", strings.HasPrefix(line, "    "):
		default:
			lines[n] = strings.TrimRight(line, "\n")
		}
	}
	return lines
}

func isTable(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), "|") }

func TestPages_ArePlain(t *testing.T) {
	eachPage(t, func(t *testing.T, name, text string) {
		lines := prose(text)
		for _, n := range slices.Sorted(maps.Keys(lines)) {
			line := lines[n]
			if found := oldStyle.FindString(line); found != "" && !listsWords(name, line) {
				t.Errorf("line %d says %q: use a plain word (docs/glossary.md)", n, found)
			}
			shown := linkTarget.ReplaceAllString(line, "]()")
			if columns := utf8.RuneCountInString(shown); columns > maxColumns && !isTable(line) && !slices.Contains(generatedPages, filepath.Base(name)) {
				t.Errorf("line %d has %d columns, %d at most", n, columns, maxColumns)
			}
		}
	})
}

// listsWords reports whether the line is one of the glossary that says which words not
// to use.
func listsWords(name, line string) bool {
	return filepath.Base(name) == "glossary.md" && isTable(line)
}

// A page for users says what holds, in cells that fit; which test shows it is in
// docs/lab/evidence.md.
func TestPages_ForUsersNameNoTests(t *testing.T) {
	eachPage(t, func(t *testing.T, name, text string) {
		base := filepath.Base(name)
		if folder := filepath.Base(filepath.Dir(name)); folder == "adr" || folder == "lab" || slices.Contains(engineersPages, base) {
			return
		}
		lines := prose(text)
		for _, n := range slices.Sorted(maps.Keys(lines)) {
			line := lines[n]
			if found := namesTest.FindString(line); found != "" {
				t.Errorf("line %d names %s: move it to docs/lab/evidence.md", n, found)
			}
			if !isTable(line) || slices.Contains(generatedPages, base) {
				continue
			}
			for _, cell := range cellBorder.Split(line, -1) {
				if words := len(strings.Fields(cell)); words > maxWords {
					t.Errorf("line %d has a cell of %d words, %d at most: %.40s", n, words, maxWords, cell)
				}
			}
		}
	})
}

func TestPages_LinksLeadSomewhere(t *testing.T) {
	eachPage(t, func(t *testing.T, name, text string) {
		for _, line := range prose(text) {
			for _, m := range linkTarget.FindAllStringSubmatch(line, -1) {
				if strings.Contains(m[1], "://") {
					continue
				}
				path, anchor, _ := strings.Cut(m[1], "#")
				target := name
				if path != "" {
					target = filepath.Join(filepath.Dir(name), path)
				}
				require.True(t, exists(target), "%s leads nowhere", m[1])
				if anchor != "" && filepath.Ext(target) == ".md" {
					page, err := os.ReadFile(target)
					require.NoError(t, err)
					require.Contains(t, slugs(string(page)), anchor, "%s leads to no heading", m[1])
				}
			}
		}
	})
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// slugs are the anchors of a page's headings, as GitHub makes them.
func slugs(page string) (all []string) {
	for _, m := range heading.FindAllStringSubmatch(page, -1) {
		text := notInSlug.ReplaceAllString(strings.ToLower(m[1]), "")
		all = append(all, strings.ReplaceAll(text, " ", "-"))
	}
	return all
}

var identifier = regexp.MustCompile("`([a-z0-9]+)\\.([A-Z]\\w*)(?:\\.(\\w+))?`")

// The glossary names what is in the code today.
func TestGlossary_NamesWhatExists(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "glossary.md"))
	require.NoError(t, err)
	found := identifier.FindAllStringSubmatch(string(page), -1)
	require.Greater(t, len(found), 60)
	for _, m := range found {
		folder := "/" + m[1] + "/"
		if m[1] == "ledgerfeedv1" {
			folder = "/ledgerfeed/v1/"
		}
		for _, name := range m[2:] {
			if name == "" {
				continue
			}
			grep := exec.Command("grep", "-rlE", `^(type|func|var|const)? *(\([^)]*\) )?[[:space:]]*`+name+`\b`, "--include=*.go", "pkg", "proto", "services")
			grep.Dir = root
			out, _ := grep.Output()
			require.Contains(t, "/"+strings.ReplaceAll(string(out), "\n", "\n/"), folder, "%s: the code has no such name", m[0])
		}
	}
}

var (
	setting  = regexp.MustCompile("`([a-z]+\\.[a-z_]+)`")
	variable = regexp.MustCompile(`LEDGERFEED_[A-Z_]+[A-Z]\b`)
)

// A page names the settings that there are: those of an ADR were there when it was written.
func TestPages_NameSettingsThatExist(t *testing.T) {
	configuration := docs.Configuration()
	eachPage(t, func(t *testing.T, name, text string) {
		if filepath.Base(filepath.Dir(name)) == "adr" {
			return
		}
		for _, m := range setting.FindAllStringSubmatch(text, -1) {
			group, _, _ := strings.Cut(m[1], ".")
			if strings.Contains(configuration, "\n## "+group+"\n") {
				require.Contains(t, configuration, "`LEDGERFEED_"+strings.ToUpper(strings.ReplaceAll(m[1], ".", "_"))+"`", m[1])
			}
		}
		for _, env := range variable.FindAllString(text, -1) {
			if env == "LEDGERFEED_VERSION" || env == "LEDGERFEED_CONFIG" { // of compose; of every program
				continue
			}
			require.Contains(t, configuration, "`"+strings.TrimSuffix(env, "_FILE"), "no setting")
		}
	})
}
