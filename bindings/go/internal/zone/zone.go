// Package zone translates between the scopes of IPv6 addresses (interface indexes) and the names
// that package net gives them.
package zone

import (
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// cache remembers interface names and indexes for a minute, as package net does: each question to
// the kernel costs several system calls.
var cache struct {
	sync.Mutex
	names   map[uint32]string
	indexes map[string]uint32
	since   time.Time
}

// refresh forgets what is too old. The lock is held.
func refresh() {
	if cache.names == nil || time.Since(cache.since) > lifetime {
		cache.names, cache.indexes, cache.since = map[uint32]string{}, map[string]uint32{}, time.Now()
	}
}

const lifetime = time.Minute

// WithScope returns address with the zone of this scope; 0 is no scope.
func WithScope(address netip.Addr, scope uint32) netip.Addr {
	if scope == 0 {
		return address
	}
	return address.WithZone(Name(scope))
}

// Name returns the name of an interface, or its index as text if it has none; "" for 0.
func Name(index uint32) string {
	if index == 0 {
		return ""
	}
	cache.Lock()
	defer cache.Unlock()
	refresh()
	if name, known := cache.names[index]; known {
		return name
	}
	name := strconv.FormatUint(uint64(index), 10)
	if known, err := net.InterfaceByIndex(int(index)); err == nil {
		name = known.Name
	}
	cache.names[index] = name
	return name
}

// Index returns the scope that a zone names; 0 if there is none.
func Index(name string) uint32 {
	if name == "" {
		return 0
	}
	cache.Lock()
	defer cache.Unlock()
	refresh()
	if index, known := cache.indexes[name]; known {
		return index
	}
	if known, err := net.InterfaceByName(name); err == nil {
		cache.indexes[name] = uint32(known.Index)
		return uint32(known.Index)
	}
	index, _ := strconv.ParseUint(name, 10, 32)
	return uint32(index)
}
