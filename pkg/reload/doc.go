// Package reload gives a program that runs the settings that have changed: secrets are
// replaced while it works.
//
// It reads the settings again when one of their files changes and on SIGHUP. Settings with
// the tag live:"true" are given to those who use them ([Settings.Use]); of the others it
// says that they need a restart. What cannot be read, or not be used, changes nothing: a
// file that is empty or half written for a moment leaves the old values in place, and is
// read again when its content changes again. No value is logged.
//
// It ends nothing that is under way: connections go on with the secret that they were made
// with, and new ones take the new secret.
package reload
