package ringmsg

import (
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// zones remembers interface names as package net does: asking costs system calls.
var zones = struct {
	sync.Mutex
	names map[uint32]string
	since time.Time
}{}

const zonesTTL = time.Minute

func withScope(address netip.Addr, scope uint32) netip.Addr {
	if scope == 0 {
		return address
	}
	return address.WithZone(zoneName(scope))
}

func zoneName(index uint32) string {
	if index == 0 {
		return ""
	}
	zones.Lock()
	defer zones.Unlock()
	if zones.names == nil || time.Since(zones.since) > zonesTTL {
		zones.names, zones.since = map[uint32]string{}, time.Now()
	}
	if name, known := zones.names[index]; known {
		return name
	}
	name := strconv.FormatUint(uint64(index), 10)
	if known, err := net.InterfaceByIndex(int(index)); err == nil {
		name = known.Name
	}
	zones.names[index] = name
	return name
}

func zoneIndex(name string) uint32 {
	if name == "" {
		return 0
	}
	if known, err := net.InterfaceByName(name); err == nil {
		return uint32(known.Index)
	}
	index, _ := strconv.ParseUint(name, 10, 32)
	return uint32(index)
}
