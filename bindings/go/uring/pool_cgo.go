//go:build linux && cgo

package uring

// #include "shim.h"
import "C"

import (
	"runtime"
	"syscall"
	"unsafe"
)

// Pool is the buffers of a ring: one mapping at one address for its life, which ends with
// [Pool.Close] or with its ring. A slice of it that the program keeps for longer is no fault: it
// shows what the pool held for some ten seconds, then zeros, and after a minute perhaps the data of
// another pool.
type Pool struct {
	ring   *Ring
	handle *C.struct_ringmsg_pool
	id     uint16
	bytes  []byte
	memory []byte // the whole mapping
}

// PoolConfigForSocket sizes a pool for the options that are on for fd: never too little space
// for control messages.
func PoolConfigForSocket(fd int) (PoolConfig, error) {
	var config C.struct_ringmsg_pool_config
	if err := failure("pool_config_for_socket", C.rm_pool_config_for_socket(&config, C.int(fd))); err != nil {
		return PoolConfig{}, err
	}
	return PoolConfig{
		Buffers:         int(config.buffers),
		PayloadCapacity: int(config.payload_capacity),
		ControlCapacity: int(config.control_capacity),
		NameCapacity:    int(config.name_capacity),
	}, nil
}

// NewPool makes a pool of buffers.
func (r *Ring) NewPool(config PoolConfig) (*Pool, error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.leave()
	for _, n := range []int{
		config.Buffers, config.PayloadCapacity, config.ControlCapacity, config.NameCapacity,
	} {
		if n < 0 || uint64(n) > 1<<32-1 {
			return nil, &Error{Op: "pool_new", Errno: syscall.EINVAL, Reason: "pool: a size out of range"}
		}
	}
	given := C.struct_ringmsg_pool_config{
		buffers:          C.uint32_t(config.Buffers),
		payload_capacity: C.uint32_t(config.PayloadCapacity),
		control_capacity: C.uint32_t(config.ControlCapacity),
		name_capacity:    C.uint32_t(config.NameCapacity),
	}
	size := uint64(C.rm_pool_size(&given))
	if size >= 1<<32 {
		return nil, &Error{Op: "pool_new", Errno: syscall.EINVAL, Reason: "pool: it would take 4 GiB or more"}
	}
	memory, err := newMemory(int(size))
	if err != nil {
		return nil, &Error{Op: "pool_new", Errno: err.(syscall.Errno), Reason: "pool: " + err.Error()}
	}
	pool := &Pool{ring: r, memory: memory}
	err = failure("pool_new", C.rm_pool_new(
		r.handle, &given, unsafe.Pointer(&memory[0]), C.size_t(len(memory)), &pool.handle,
	))
	if err != nil {
		dropMemory(memory)
		return nil, err
	}
	r.memory.add(memory)
	pool.id = uint16(C.ringmsg_pool_id(pool.handle))
	pool.bytes = memory[:C.ringmsg_pool_size(pool.handle)]
	return pool, nil
}

// Close ends a pool that no request and no record refers to; EBUSY otherwise.
func (p *Pool) Close() error {
	if err := p.ring.enter(); err != nil {
		return err
	}
	defer p.ring.leave()
	err := failure("pool_free", C.rm_pool_free(p.handle))
	if err == nil {
		p.ring.memory.freed(p.memory)
		p.bytes, p.memory = nil, nil
	}
	runtime.KeepAlive(p)
	return err
}

// ID returns the pool's number, as records name it.
func (p *Pool) ID() uint16 { return p.id }

// Bytes returns the pool's memory, where the offsets in records count from. Read the slices of
// records you hold; nothing else is stable.
func (p *Pool) Bytes() []byte { return p.bytes }

// Payload returns a record's payload, in place: valid until the record is released.
func (p *Pool) Payload(record *Record) []byte {
	return part(p.bytes, record.PayloadOffset, record.PayloadLength)
}

// Control returns a record's control messages, in place.
func (p *Pool) Control(record *Record) []byte {
	return part(p.bytes, record.ControlOffset, record.ControlLength)
}

// Name returns a record's source address, a sockaddr, in place.
func (p *Pool) Name(record *Record) []byte {
	return part(p.bytes, record.NameOffset, record.NameLength)
}
