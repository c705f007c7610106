//go:build race

package console_test

// raceDetector: it keeps several bytes for each byte of the program, so that the resident
// memory says nothing of a build without it.
const raceDetector = true
