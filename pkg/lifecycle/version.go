package lifecycle

import "runtime/debug"

// version is set by the linker (see the Makefile); nothing else may write it.
var version string

// Version is what this binary was built from: the tag or commit the Makefile
// passed, else the commit the Go toolchain recorded, else "dev".
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "dev"
}
