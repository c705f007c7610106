package devtest

import "testing"

// Postgres returns the URL of a fresh database on a PostgreSQL of this test binary.
func Postgres(t testing.TB) string {
	t.Helper()
	t.Fatal("devtest: PostgreSQL cannot be started yet")
	return ""
}

// Main runs the tests of a package and stops what Postgres started:
//
//	func TestMain(m *testing.M) { os.Exit(devtest.Main(m)) }
func Main(m *testing.M) int { return m.Run() }
