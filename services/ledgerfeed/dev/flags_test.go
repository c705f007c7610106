package dev

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOutage_ReadsAtAndFor(t *testing.T) {
	var o Outage
	require.NoError(t, o.UnmarshalText([]byte("5s:8s")))
	require.Equal(t, Outage{From: 5 * time.Second, For: 8 * time.Second}, o)
	require.Equal(t, "5s:8s", o.String())

	for _, bad := range []string{"", "5s", ":", "5:8", "5s:", "-5s:8s", "5s:0s", "5s:8s:9s"} {
		require.ErrorContains(t, o.UnmarshalText([]byte(bad)), fmt.Sprintf("%q", bad))
	}
}

func TestTarget_ReadsEveryWayToWriteAPlace(t *testing.T) {
	for text, want := range map[string]Target{
		"jsonl:a/b.jsonl":                       {Kind: "jsonl", Where: "a/b.jsonl"},
		"jsonl:C:\\x":                           {Kind: "jsonl", Where: "C:\\x"},
		"postgres:postgres://u:p@h:5432/db":     {Kind: "postgres", Where: "postgres://u:p@h:5432/db"},
		"postgres:postgresql://u@h/db":          {Kind: "postgres", Where: "postgresql://u@h/db"},
		"postgres://u:p@h:5432/db?sslmode=off":  {Kind: "postgres", Where: "postgres://u:p@h:5432/db?sslmode=off"},
		"postgresql://u@h/db":                   {Kind: "postgres", Where: "postgresql://u@h/db"},
		"webhook:http://127.0.0.1:9000/u?k=v":   {Kind: "webhook", Where: "http://127.0.0.1:9000/u?k=v"},
		"postgres:postgres:///db?host=/var/run": {Kind: "postgres", Where: "postgres:///db?host=/var/run"},
	} {
		var got Target
		require.NoError(t, got.UnmarshalText([]byte(text)), text)
		require.Equal(t, want, got, text)
		require.NotContains(t, got.String(), "u:p@", text)
		require.NotContains(t, got.String(), "?", text)
	}
	var got Target
	for _, bad := range []string{"", "jsonl", "jsonl:", "csv:x", "postgres:", "postgres:db", "postgres://", "x.jsonl", "webhook:", "webhook:127.0.0.1:9000", "webhook:ftp://h/"} {
		require.Error(t, got.UnmarshalText([]byte(bad)), bad)
	}
	require.NotContains(t, got.UnmarshalText([]byte("postgres:host=h password=hunter2")).Error(), "hunter2")
	require.NotContains(t, got.UnmarshalText([]byte("webhook:http://me:hunter2@h/")).Error(), "hunter2")
}

func TestTarget_SamePlaceSameName(t *testing.T) {
	name := func(text string) string {
		var to Target
		require.NoError(t, to.UnmarshalText([]byte(text)))
		return to.name()
	}
	require.Equal(t, name("jsonl:x"), name("jsonl:./x"))
	require.NotEqual(t, name("jsonl:x"), name("jsonl:y"))
	require.Equal(t, name("postgres://a:secret@h:5432/db"), name("postgres:postgresql://b@h:5432/db"))
	require.NotEqual(t, name("postgres://h:5432/db"), name("postgres://h:5432/other"))
	require.NotEqual(t, name("webhook:http://h/?of=x"), name("webhook:http://h/?of=y"))
	require.Regexp(t, `^jsonl-[0-9a-f]{8}$`, name("jsonl:x"))
}

func TestOptions_OnAMachineWithoutIPv4(t *testing.T) {
	o := DefaultOptions()
	o.ConsoleListen = "[::1]:8090"
	o = o.on("::1")
	require.Equal(t, []string{"[::1]:8080", "[::1]:0", "[::1]:8090", "off"}, []string{o.Listen, o.SimListen, o.ConsoleListen, o.MetricsListen})
	require.NoError(t, o.Validate())
}
