//go:build !race

package quictest

const raceEnabled = false
