// Package archtest checks the rules of the architecture over all modules of the
// workspace: who may import whom, and what no source file may hold.
//
// It guarantees that each rule is shown to fail: testdata/violating.txtar is a
// small workspace that breaks every one of them, and a rule that finds nothing
// there fails its own test. Direct imports are read from all files, those of
// other platforms included; what a binary is made of is asked of the go command.
//
// It does not see through interfaces, reflection or generated code. Go caches
// the result, and the cache does not know of other modules: run it with -count=1,
// as make lint does.
package archtest
