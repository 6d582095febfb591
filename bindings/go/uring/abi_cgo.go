// Code generated from include/ringmsg.h by go generate; DO NOT EDIT.

//go:build linux && cgo

package uring

// #include "shim.h"
import "C"

import "unsafe"

// The structs are the header's, byte for byte. Each line fails to compile when the header that the
// compiler finds has a field somewhere else: an index into an array of one must be 0.
var only [1]struct{}

var (
	cRecord    C.struct_ringmsg_record
	goRecord   Record
	cMetadata  C.struct_ringmsg_metadata
	goMetadata Metadata
	cStats     C.struct_ringmsg_stats
	goStats    Stats
)

const headStats = unsafe.Offsetof(cStats.records)

var _ = []struct{}{
	only[unsafe.Offsetof(cRecord.user_data)-unsafe.Offsetof(goRecord.UserData)],
	only[unsafe.Sizeof(cRecord.user_data)-unsafe.Sizeof(goRecord.UserData)],
	only[unsafe.Offsetof(cRecord.result)-unsafe.Offsetof(goRecord.Result)],
	only[unsafe.Sizeof(cRecord.result)-unsafe.Sizeof(goRecord.Result)],
	only[unsafe.Offsetof(cRecord.flags)-unsafe.Offsetof(goRecord.Flags)],
	only[unsafe.Sizeof(cRecord.flags)-unsafe.Sizeof(goRecord.Flags)],
	only[unsafe.Offsetof(cRecord.payload_offset)-unsafe.Offsetof(goRecord.PayloadOffset)],
	only[unsafe.Sizeof(cRecord.payload_offset)-unsafe.Sizeof(goRecord.PayloadOffset)],
	only[unsafe.Offsetof(cRecord.payload_length)-unsafe.Offsetof(goRecord.PayloadLength)],
	only[unsafe.Sizeof(cRecord.payload_length)-unsafe.Sizeof(goRecord.PayloadLength)],
	only[unsafe.Offsetof(cRecord.control_offset)-unsafe.Offsetof(goRecord.ControlOffset)],
	only[unsafe.Sizeof(cRecord.control_offset)-unsafe.Sizeof(goRecord.ControlOffset)],
	only[unsafe.Offsetof(cRecord.control_length)-unsafe.Offsetof(goRecord.ControlLength)],
	only[unsafe.Sizeof(cRecord.control_length)-unsafe.Sizeof(goRecord.ControlLength)],
	only[unsafe.Offsetof(cRecord.name_offset)-unsafe.Offsetof(goRecord.NameOffset)],
	only[unsafe.Sizeof(cRecord.name_offset)-unsafe.Sizeof(goRecord.NameOffset)],
	only[unsafe.Offsetof(cRecord.name_length)-unsafe.Offsetof(goRecord.NameLength)],
	only[unsafe.Sizeof(cRecord.name_length)-unsafe.Sizeof(goRecord.NameLength)],
	only[unsafe.Offsetof(cRecord.wire_length)-unsafe.Offsetof(goRecord.WireLength)],
	only[unsafe.Sizeof(cRecord.wire_length)-unsafe.Sizeof(goRecord.WireLength)],
	only[unsafe.Offsetof(cRecord.msg_flags)-unsafe.Offsetof(goRecord.MsgFlags)],
	only[unsafe.Sizeof(cRecord.msg_flags)-unsafe.Sizeof(goRecord.MsgFlags)],
	only[unsafe.Offsetof(cRecord.segment_size)-unsafe.Offsetof(goRecord.SegmentSize)],
	only[unsafe.Sizeof(cRecord.segment_size)-unsafe.Sizeof(goRecord.SegmentSize)],
	only[unsafe.Offsetof(cRecord.pool)-unsafe.Offsetof(goRecord.Pool)],
	only[unsafe.Sizeof(cRecord.pool)-unsafe.Sizeof(goRecord.Pool)],
	only[unsafe.Offsetof(cRecord.buffer)-unsafe.Offsetof(goRecord.Buffer)],
	only[unsafe.Sizeof(cRecord.buffer)-unsafe.Sizeof(goRecord.Buffer)],
	only[unsafe.Offsetof(cRecord.generation)-unsafe.Offsetof(goRecord.Generation)],
	only[unsafe.Sizeof(cRecord.generation)-unsafe.Sizeof(goRecord.Generation)],
	only[unsafe.Offsetof(cRecord.segment)-unsafe.Offsetof(goRecord.Segment)],
	only[unsafe.Sizeof(cRecord.segment)-unsafe.Sizeof(goRecord.Segment)],
	only[unsafe.Offsetof(cRecord.segments)-unsafe.Offsetof(goRecord.Segments)],
	only[unsafe.Sizeof(cRecord.segments)-unsafe.Sizeof(goRecord.Segments)],
	only[unsafe.Sizeof(cRecord)-unsafe.Sizeof(goRecord)],
	only[unsafe.Offsetof(cMetadata.valid)-unsafe.Offsetof(goMetadata.Valid)],
	only[unsafe.Sizeof(cMetadata.valid)-unsafe.Sizeof(goMetadata.Valid)],
	only[unsafe.Offsetof(cMetadata.family)-unsafe.Offsetof(goMetadata.Family)],
	only[unsafe.Sizeof(cMetadata.family)-unsafe.Sizeof(goMetadata.Family)],
	only[unsafe.Offsetof(cMetadata.source_port)-unsafe.Offsetof(goMetadata.SourcePort)],
	only[unsafe.Sizeof(cMetadata.source_port)-unsafe.Sizeof(goMetadata.SourcePort)],
	only[unsafe.Offsetof(cMetadata.source)-unsafe.Offsetof(goMetadata.SourceBytes)],
	only[unsafe.Sizeof(cMetadata.source)-unsafe.Sizeof(goMetadata.SourceBytes)],
	only[unsafe.Offsetof(cMetadata.source_scope)-unsafe.Offsetof(goMetadata.SourceScope)],
	only[unsafe.Sizeof(cMetadata.source_scope)-unsafe.Sizeof(goMetadata.SourceScope)],
	only[unsafe.Offsetof(cMetadata.interface_index)-unsafe.Offsetof(goMetadata.InterfaceIndex)],
	only[unsafe.Sizeof(cMetadata.interface_index)-unsafe.Sizeof(goMetadata.InterfaceIndex)],
	only[unsafe.Offsetof(cMetadata.destination)-unsafe.Offsetof(goMetadata.DestinationBytes)],
	only[unsafe.Sizeof(cMetadata.destination)-unsafe.Sizeof(goMetadata.DestinationBytes)],
	only[unsafe.Offsetof(cMetadata.destination_port)-unsafe.Offsetof(goMetadata.DestinationPort)],
	only[unsafe.Sizeof(cMetadata.destination_port)-unsafe.Sizeof(goMetadata.DestinationPort)],
	only[unsafe.Offsetof(cMetadata.traffic_class)-unsafe.Offsetof(goMetadata.TrafficClass)],
	only[unsafe.Sizeof(cMetadata.traffic_class)-unsafe.Sizeof(goMetadata.TrafficClass)],
	only[unsafe.Offsetof(cMetadata.hop_limit)-unsafe.Offsetof(goMetadata.HopLimit)],
	only[unsafe.Sizeof(cMetadata.hop_limit)-unsafe.Sizeof(goMetadata.HopLimit)],
	only[unsafe.Offsetof(cMetadata.segment_size)-unsafe.Offsetof(goMetadata.SegmentSize)],
	only[unsafe.Sizeof(cMetadata.segment_size)-unsafe.Sizeof(goMetadata.SegmentSize)],
	only[unsafe.Offsetof(cMetadata.dropped)-unsafe.Offsetof(goMetadata.Dropped)],
	only[unsafe.Sizeof(cMetadata.dropped)-unsafe.Sizeof(goMetadata.Dropped)],
	only[unsafe.Offsetof(cMetadata.socket_error)-unsafe.Offsetof(goMetadata.SocketError)],
	only[unsafe.Sizeof(cMetadata.socket_error)-unsafe.Sizeof(goMetadata.SocketError)],
	only[unsafe.Offsetof(cMetadata.software_timestamp_ns)-unsafe.Offsetof(goMetadata.SoftwareTimestampNS)],
	only[unsafe.Sizeof(cMetadata.software_timestamp_ns)-unsafe.Sizeof(goMetadata.SoftwareTimestampNS)],
	only[unsafe.Offsetof(cMetadata.hardware_timestamp_ns)-unsafe.Offsetof(goMetadata.HardwareTimestampNS)],
	only[unsafe.Sizeof(cMetadata.hardware_timestamp_ns)-unsafe.Sizeof(goMetadata.HardwareTimestampNS)],
	only[unsafe.Offsetof(cMetadata.mark)-unsafe.Offsetof(goMetadata.Mark)],
	only[unsafe.Sizeof(cMetadata.mark)-unsafe.Sizeof(goMetadata.Mark)],
	only[unsafe.Offsetof(cMetadata.flow_label)-unsafe.Offsetof(goMetadata.FlowLabel)],
	only[unsafe.Sizeof(cMetadata.flow_label)-unsafe.Sizeof(goMetadata.FlowLabel)],
	only[unsafe.Offsetof(cMetadata.local_v4)-unsafe.Offsetof(goMetadata.LocalV4Bytes)],
	only[unsafe.Sizeof(cMetadata.local_v4)-unsafe.Sizeof(goMetadata.LocalV4Bytes)],
	only[unsafe.Offsetof(cMetadata.reserved)-unsafe.Offsetof(goMetadata.reserved)],
	only[unsafe.Sizeof(cMetadata.reserved)-unsafe.Sizeof(goMetadata.reserved)],
	only[unsafe.Sizeof(cMetadata)-unsafe.Sizeof(goMetadata)],
	only[unsafe.Offsetof(cStats.records)-headStats-unsafe.Offsetof(goStats.Records)],
	only[unsafe.Sizeof(cStats.records)-unsafe.Sizeof(goStats.Records)],
	only[unsafe.Offsetof(cStats.datagrams)-headStats-unsafe.Offsetof(goStats.Datagrams)],
	only[unsafe.Sizeof(cStats.datagrams)-unsafe.Sizeof(goStats.Datagrams)],
	only[unsafe.Offsetof(cStats.payload_bytes)-headStats-unsafe.Offsetof(goStats.PayloadBytes)],
	only[unsafe.Sizeof(cStats.payload_bytes)-unsafe.Sizeof(goStats.PayloadBytes)],
	only[unsafe.Offsetof(cStats.reaps)-headStats-unsafe.Offsetof(goStats.Reaps)],
	only[unsafe.Sizeof(cStats.reaps)-unsafe.Sizeof(goStats.Reaps)],
	only[unsafe.Offsetof(cStats.enters)-headStats-unsafe.Offsetof(goStats.Enters)],
	only[unsafe.Sizeof(cStats.enters)-unsafe.Sizeof(goStats.Enters)],
	only[unsafe.Offsetof(cStats.wakes)-headStats-unsafe.Offsetof(goStats.Wakes)],
	only[unsafe.Sizeof(cStats.wakes)-unsafe.Sizeof(goStats.Wakes)],
	only[unsafe.Offsetof(cStats.rearms)-headStats-unsafe.Offsetof(goStats.Rearms)],
	only[unsafe.Sizeof(cStats.rearms)-unsafe.Sizeof(goStats.Rearms)],
	only[unsafe.Offsetof(cStats.starvations)-headStats-unsafe.Offsetof(goStats.Starvations)],
	only[unsafe.Sizeof(cStats.starvations)-unsafe.Sizeof(goStats.Starvations)],
	only[unsafe.Offsetof(cStats.window_misses)-headStats-unsafe.Offsetof(goStats.WindowMisses)],
	only[unsafe.Sizeof(cStats.window_misses)-unsafe.Sizeof(goStats.WindowMisses)],
	only[unsafe.Offsetof(cStats.cq_overflows)-headStats-unsafe.Offsetof(goStats.CQOverflows)],
	only[unsafe.Sizeof(cStats.cq_overflows)-unsafe.Sizeof(goStats.CQOverflows)],
	only[unsafe.Offsetof(cStats.truncated)-headStats-unsafe.Offsetof(goStats.Truncated)],
	only[unsafe.Sizeof(cStats.truncated)-unsafe.Sizeof(goStats.Truncated)],
	only[unsafe.Offsetof(cStats.control_truncated)-headStats-unsafe.Offsetof(goStats.ControlTruncated)],
	only[unsafe.Sizeof(cStats.control_truncated)-unsafe.Sizeof(goStats.ControlTruncated)],
	only[unsafe.Offsetof(cStats.zero_length)-headStats-unsafe.Offsetof(goStats.ZeroLength)],
	only[unsafe.Sizeof(cStats.zero_length)-unsafe.Sizeof(goStats.ZeroLength)],
	only[unsafe.Offsetof(cStats.errors)-headStats-unsafe.Offsetof(goStats.Errors)],
	only[unsafe.Sizeof(cStats.errors)-unsafe.Sizeof(goStats.Errors)],
	only[unsafe.Offsetof(cStats.socket_drops)-headStats-unsafe.Offsetof(goStats.SocketDrops)],
	only[unsafe.Sizeof(cStats.socket_drops)-unsafe.Sizeof(goStats.SocketDrops)],
	only[unsafe.Offsetof(cStats.buffers_held)-headStats-unsafe.Offsetof(goStats.BuffersHeld)],
	only[unsafe.Sizeof(cStats.buffers_held)-unsafe.Sizeof(goStats.BuffersHeld)],
	only[unsafe.Offsetof(cStats.buffers_published)-headStats-unsafe.Offsetof(goStats.BuffersPublished)],
	only[unsafe.Sizeof(cStats.buffers_published)-unsafe.Sizeof(goStats.BuffersPublished)],
	only[unsafe.Sizeof(cStats)-headStats-unsafe.Sizeof(goStats)],
}
