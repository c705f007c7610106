package memlimit

import (
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// unlimited is from where on version 1 means no limit: the largest number of pages.
const unlimited = 1 << 62

// cgroupLimit is the memory that this process and those beside it may take, by the files of
// version 2 or 1 under root; 0 where there is no limit. The smallest on the way up counts.
func cgroupLimit(root fs.FS) int64 {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0 // not Linux
	}
	mounts, err := fs.ReadFile(root, "proc/self/mountinfo")
	if err != nil {
		return 0
	}
	least := int64(0)
	for line := range strings.Lines(string(groups)) {
		// 0::/path of version 2, 4:memory:/path of version 1
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		controllers, group := strings.Split(parts[1], ","), parts[2]
		file := "memory.max"
		switch {
		case parts[1] == "" && parts[0] == "0":
			controllers = nil
		case slices.Contains(controllers, "memory"):
			file = "memory.limit_in_bytes"
		default:
			continue
		}
		dir, top, ok := mounted(string(mounts), controllers != nil)
		if !ok {
			continue
		}
		// In a container the mount shows a part of the tree, from top on.
		inside, ok := strings.CutPrefix(path.Clean("/"+group), strings.TrimSuffix(top, "/"))
		if !ok {
			inside = "/"
		}
		for at := path.Join("/", inside); ; at = path.Dir(at) {
			if n := readLimit(root, path.Join(dir, at, file)); n > 0 && (least == 0 || n < least) {
				least = n
			}
			if at == "/" {
				break
			}
		}
	}
	return least
}

// mounted is where the tree of version 2, or that of version 1 with memory, is mounted, and
// which part of it.
func mounted(mounts string, first bool) (dir, top string, ok bool) {
	for line := range strings.Lines(mounts) {
		// 35 31 0:32 /top /dir rw,relatime - cgroup cgroup rw,memory
		before, after, found := strings.Cut(strings.TrimSpace(line), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !found || len(left) < 5 || len(right) < 3 {
			continue
		}
		if first && right[0] == "cgroup" && slices.Contains(strings.Split(right[2], ","), "memory") || !first && right[0] == "cgroup2" {
			return left[4], left[3], true
		}
	}
	return "", "", false
}

func readLimit(root fs.FS, name string) int64 {
	text, err := fs.ReadFile(root, strings.TrimPrefix(name, "/"))
	if err != nil {
		return 0 // the root of the tree has none
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || n >= unlimited {
		return 0 // max
	}
	return n
}
