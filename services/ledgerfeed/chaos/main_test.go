package chaos

import (
	"flag"
	"os"
	"testing"

	"go.uber.org/goleak"
)

var (
	plantBugs = flag.Bool("chaos.mutants", false, "plant each bug and require that it is caught")
	dieAtAll  = flag.Bool("chaos.points", false, "kill a process at each point between two steps")
	onlyBug   = flag.String("chaos.mutant", "", "plant this bug only")
	mostSeeds = flag.Int("chaos.seeds", 5, "seeds to try for each bug")
)

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			code = 1
		}
	}
	os.Exit(code)
}
