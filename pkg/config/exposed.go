package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// SecretFiles returns the files with secrets that Load with the same arguments reads, by
// setting.
func SecretFiles(cfg any, file string, environ []string) map[string]string {
	s, err := schemaOf(cfg)
	if err != nil {
		return nil
	}
	if file == "" {
		file = lookup(environ, FileEnv)
	}
	settings, _ := s.readEnv(environ)
	if isFile(file) {
		fromFile, _ := s.readFile(file)
		settings = append(settings, fromFile...)
	}
	files := map[string]string{}
	for _, set := range settings {
		if path, ok := set.value.(string); ok && set.file && set.field.secret {
			files[set.field.key] = path
		}
	}
	return files
}

// Exposed reports whether every user of the machine may read a file. A file that is a
// mount of its own is not looked at: a container engine put it there for this program,
// and its mode is that of the host.
func Exposed(path string) bool { return exposed(os.DirFS("/"), path) }

func exposed(root fs.FS, path string) bool {
	path, err := filepath.Abs(path)
	if err != nil || mounted(root, path) {
		return false
	}
	info, err := fs.Stat(root, strings.TrimPrefix(path, "/"))
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o004 == 0 {
		return false
	}
	// A directory that others cannot enter hides what is in it.
	for dir := filepath.Dir(path); dir != "/"; dir = filepath.Dir(dir) {
		if info, err := fs.Stat(root, strings.TrimPrefix(dir, "/")); err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
	}
	return true
}

// mounted reports whether path itself is a mount, by Linux's list.
func mounted(root fs.FS, path string) bool {
	mounts, err := fs.ReadFile(root, "proc/self/mountinfo")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(mounts)) {
		// 36 35 98:0 /root /mount/point rw - ext4 /dev/x rw
		if parts := strings.Fields(line); len(parts) > 4 && parts[4] == path {
			return true
		}
	}
	return false
}
