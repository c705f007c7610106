package dev

import (
	"os"
	"testing"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
)

func TestMain(m *testing.M) { os.Exit(devtest.Main(m)) }
