//go:build !linux

package chaos

import "syscall"

// attributes keep Ctrl-C from a process: this one ends its children in order.
func attributes(user *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: user, Setpgid: true}
}
