package chaos

import "syscall"

// attributes make a process end with this one, however this one ends, and keep
// Ctrl-C from it: this process ends its children in order.
func attributes(user *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: user, Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
