//go:build linux && cgo

package ringmsg

// #include "shim.h"
import "C"

import "unsafe"

// Record, Metadata and Stats are the header's structs, byte for byte. Each line fails to compile
// when a field is somewhere else: an index into an array of one must be 0.
var (
	cRecord   C.struct_ringmsg_record
	cMetadata C.struct_ringmsg_metadata
	cStats    C.struct_ringmsg_stats
	goRecord  Record
	goMeta    Metadata
	goStats   Stats
	only      [1]struct{}
)

const statsHead = unsafe.Offsetof(cStats.records)

var _ = []struct{}{
	only[unsafe.Sizeof(cRecord)-unsafe.Sizeof(goRecord)],
	only[unsafe.Offsetof(cRecord.user_data)-unsafe.Offsetof(goRecord.UserData)],
	only[unsafe.Offsetof(cRecord.result)-unsafe.Offsetof(goRecord.Result)],
	only[unsafe.Offsetof(cRecord.flags)-unsafe.Offsetof(goRecord.Flags)],
	only[unsafe.Offsetof(cRecord.payload_offset)-unsafe.Offsetof(goRecord.PayloadOffset)],
	only[unsafe.Offsetof(cRecord.payload_length)-unsafe.Offsetof(goRecord.PayloadLength)],
	only[unsafe.Offsetof(cRecord.control_offset)-unsafe.Offsetof(goRecord.ControlOffset)],
	only[unsafe.Offsetof(cRecord.control_length)-unsafe.Offsetof(goRecord.ControlLength)],
	only[unsafe.Offsetof(cRecord.name_offset)-unsafe.Offsetof(goRecord.NameOffset)],
	only[unsafe.Offsetof(cRecord.name_length)-unsafe.Offsetof(goRecord.NameLength)],
	only[unsafe.Offsetof(cRecord.wire_length)-unsafe.Offsetof(goRecord.WireLength)],
	only[unsafe.Offsetof(cRecord.msg_flags)-unsafe.Offsetof(goRecord.MsgFlags)],
	only[unsafe.Offsetof(cRecord.segment_size)-unsafe.Offsetof(goRecord.SegmentSize)],
	only[unsafe.Offsetof(cRecord.pool)-unsafe.Offsetof(goRecord.Pool)],
	only[unsafe.Offsetof(cRecord.buffer)-unsafe.Offsetof(goRecord.Buffer)],
	only[unsafe.Offsetof(cRecord.generation)-unsafe.Offsetof(goRecord.Generation)],
	only[unsafe.Offsetof(cRecord.segment)-unsafe.Offsetof(goRecord.Segment)],
	only[unsafe.Offsetof(cRecord.segments)-unsafe.Offsetof(goRecord.Segments)],

	only[unsafe.Sizeof(cMetadata)-unsafe.Sizeof(goMeta)],
	only[unsafe.Offsetof(cMetadata.valid)-unsafe.Offsetof(goMeta.Valid)],
	only[unsafe.Offsetof(cMetadata.family)-unsafe.Offsetof(goMeta.Family)],
	only[unsafe.Offsetof(cMetadata.source_port)-unsafe.Offsetof(goMeta.SourcePort)],
	only[unsafe.Offsetof(cMetadata.source)-unsafe.Offsetof(goMeta.SourceBytes)],
	only[unsafe.Offsetof(cMetadata.source_scope)-unsafe.Offsetof(goMeta.SourceScope)],
	only[unsafe.Offsetof(cMetadata.interface_index)-unsafe.Offsetof(goMeta.InterfaceIndex)],
	only[unsafe.Offsetof(cMetadata.destination)-unsafe.Offsetof(goMeta.DestinationBytes)],
	only[unsafe.Offsetof(cMetadata.destination_port)-unsafe.Offsetof(goMeta.DestinationPort)],
	only[unsafe.Offsetof(cMetadata.traffic_class)-unsafe.Offsetof(goMeta.TrafficClass)],
	only[unsafe.Offsetof(cMetadata.hop_limit)-unsafe.Offsetof(goMeta.HopLimit)],
	only[unsafe.Offsetof(cMetadata.segment_size)-unsafe.Offsetof(goMeta.SegmentSize)],
	only[unsafe.Offsetof(cMetadata.dropped)-unsafe.Offsetof(goMeta.Dropped)],
	only[unsafe.Offsetof(cMetadata.socket_error)-unsafe.Offsetof(goMeta.SocketError)],
	only[unsafe.Offsetof(cMetadata.software_timestamp_ns)-unsafe.Offsetof(goMeta.SoftwareTimestampNS)],
	only[unsafe.Offsetof(cMetadata.hardware_timestamp_ns)-unsafe.Offsetof(goMeta.HardwareTimestampNS)],
	only[unsafe.Offsetof(cMetadata.mark)-unsafe.Offsetof(goMeta.Mark)],
	only[unsafe.Offsetof(cMetadata.flow_label)-unsafe.Offsetof(goMeta.FlowLabel)],
	only[unsafe.Offsetof(cMetadata.local_v4)-unsafe.Offsetof(goMeta.LocalV4Bytes)],
	only[unsafe.Offsetof(cMetadata.priority)-unsafe.Offsetof(goMeta.Priority)],
	only[unsafe.Offsetof(cMetadata.error_info)-unsafe.Offsetof(goMeta.ErrorInfo)],
	only[unsafe.Offsetof(cMetadata.error_data)-unsafe.Offsetof(goMeta.ErrorData)],
	only[unsafe.Offsetof(cMetadata.error_origin)-unsafe.Offsetof(goMeta.ErrorOrigin)],
	only[unsafe.Offsetof(cMetadata.error_type)-unsafe.Offsetof(goMeta.ErrorType)],
	only[unsafe.Offsetof(cMetadata.error_code)-unsafe.Offsetof(goMeta.ErrorCode)],
	only[unsafe.Offsetof(cMetadata.offender)-unsafe.Offsetof(goMeta.OffenderBytes)],
	only[unsafe.Offsetof(cMetadata.reserved)-unsafe.Offsetof(goMeta.reserved)],

	only[unsafe.Sizeof(cStats)-statsHead-unsafe.Sizeof(goStats)],
	only[unsafe.Offsetof(cStats.rearms)-statsHead-unsafe.Offsetof(goStats.Rearms)],
	only[unsafe.Offsetof(cStats.errors)-statsHead-unsafe.Offsetof(goStats.Errors)],
	only[unsafe.Offsetof(cStats.buffers_published)-statsHead-unsafe.Offsetof(goStats.BuffersPublished)],
}
