//go:build !race

package ringmsg

const raceEnabled = false
