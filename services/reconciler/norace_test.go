//go:build !race

package reconciler_test

const raceDetector = false
