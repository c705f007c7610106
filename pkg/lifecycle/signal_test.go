package lifecycle_test

import "syscall"

const sigterm = syscall.SIGTERM
