package jsonl

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Erased is what became of the lines of a realm.
type Erased struct {
	// Lines were removed.
	Lines int64
	// Left are those in the newest file, while a processor holds it open.
	Left int64
}

// EraseRealm writes the files that were put aside anew, without the lines of a realm. The
// newest file only if nobody has it open: its writer would go on in a file that is gone. With
// dryRun it only counts. A file is replaced as a whole; a crash leaves one or the other.
func EraseRealm(ctx context.Context, path, realm string, open, dryRun bool) (e Erased, err error) {
	names, err := aside(path)
	if err != nil {
		return e, fmt.Errorf("erase realm %s from %s: %w", realm, path, err)
	}
	for _, name := range names {
		n, err := eraseFile(ctx, name, realm, dryRun)
		e.Lines += n
		if err != nil {
			return e, fmt.Errorf("erase realm %s from %s: %w", realm, name, err)
		}
	}
	n, err := eraseFile(ctx, path, realm, dryRun || open)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return e, fmt.Errorf("erase realm %s from %s: %w", realm, path, err)
	}
	if open {
		e.Left = n
	} else {
		e.Lines += n
	}
	return e, nil
}

func eraseFile(ctx context.Context, name, realm string, dryRun bool) (n int64, err error) {
	from, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer from.Close()
	if n, err = copyWithout(ctx, io.Discard, from, realm); err != nil || n == 0 || dryRun {
		return n, err
	}
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	to, err := os.CreateTemp(filepath.Dir(name), ".erasing-*")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.Remove(to.Name()) }() // after the rename there is none
	if n, err = copyWithout(ctx, to, from, realm); err == nil {
		err = to.Sync()
	}
	if err = errors.Join(err, to.Close()); err != nil {
		return 0, err
	}
	if err := os.Rename(to.Name(), name); err != nil {
		return 0, err
	}
	return n, syncDir(filepath.Dir(name))
}

// copyWithout copies the lines that are not of the realm, and returns how many are.
func copyWithout(ctx context.Context, to io.Writer, from io.Reader, realm string) (n int64, err error) {
	in, out := bufio.NewReaderSize(from, 1<<16), bufio.NewWriterSize(to, 1<<16)
	for ctx.Err() == nil {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 && isOf(line, realm) {
			n++
		} else if _, err := out.Write(line); err != nil {
			return n, err
		}
		if errors.Is(err, io.EOF) {
			return n, out.Flush()
		}
		if err != nil {
			return n, err
		}
	}
	return n, ctx.Err()
}

// isOf reads a line only if it may be of the realm.
func isOf(line []byte, realm string) bool {
	if !bytes.Contains(line, []byte(`"`+realm+`"`)) && !bytes.Contains(line, []byte(realm+"/")) {
		return false
	}
	var r struct {
		Realm string `json:"realm"`
	}
	return json.Unmarshal(line, &r) == nil && r.Realm == realm
}
