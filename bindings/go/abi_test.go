package ringmsg

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var constants = map[string]uint64{
	"SETUP_SQPOLL":             uint64(SetupSQPoll),
	"SETUP_R_DISABLED":         uint64(SetupDisabled),
	"SETUP_COOP_TASKRUN":       uint64(SetupCoopTaskrun),
	"SETUP_TASKRUN_FLAG":       uint64(SetupTaskrunFlag),
	"SETUP_SINGLE_ISSUER":      uint64(SetupSingleIssuer),
	"SETUP_DEFER_TASKRUN":      uint64(SetupDeferTaskrun),
	"SETUP_AUTO":               uint64(SetupAuto),
	"ENGINE_AUTO":              uint64(EngineAuto),
	"ENGINE_IO_URING":          uint64(EngineIOURing),
	"ENGINE_RECVMMSG":          uint64(EngineRecvmmsg),
	"FEATURE_MULTISHOT":        uint64(FeatureMultishot),
	"FEATURE_MIN_WAIT":         uint64(FeatureMinWait),
	"LINGER_AUTO":              uint64(lingerAuto),
	"LINGER_AUTO_WITHIN":       uint64(lingerAutoWithin),
	"LINGER_MAX_US":            uint64(lingerMax),
	"RECORD_BUFFER":            uint64(RecordBuffer),
	"RECORD_FINAL":             uint64(RecordFinal),
	"RECORD_TRUNCATED":         uint64(RecordTruncated),
	"RECORD_CONTROL_TRUNCATED": uint64(RecordControlTruncated),
	"RECORD_SEGMENT":           uint64(RecordSegment),
	"RECORD_NAME_TRUNCATED":    uint64(RecordNameTruncated),
	"POOL_NONE":                uint64(PoolNone),
	"META_SOURCE":              uint64(MetaSource),
	"META_DESTINATION":         uint64(MetaDestination),
	"META_INTERFACE":           uint64(MetaInterface),
	"META_TRAFFIC_CLASS":       uint64(MetaTrafficClass),
	"META_HOP_LIMIT":           uint64(MetaHopLimit),
	"META_SEGMENT_SIZE":        uint64(MetaSegmentSize),
	"META_DROPPED":             uint64(MetaDropped),
	"META_SOFTWARE_TIMESTAMP":  uint64(MetaSoftwareTimestamp),
	"META_HARDWARE_TIMESTAMP":  uint64(MetaHardwareTimestamp),
	"META_DESTINATION_PORT":    uint64(MetaDestinationPort),
	"META_SOCKET_ERROR":        uint64(MetaSocketError),
	"META_MARK":                uint64(MetaMark),
	"META_FLOW_LABEL":          uint64(MetaFlowLabel),
	"META_LOCAL_V4":            uint64(MetaLocalV4),
	"META_PRIORITY":            uint64(MetaPriority),
	"META_OFFENDER":            uint64(MetaOffender),
	"RECV_SPLIT":               uint64(RecvSplit),
	"RECV_POLL_FIRST":          uint64(RecvPollFirst),
	"RECV_NO_REARM":            uint64(RecvNoRearm),
	"ABI_VERSION":              uint64(abiVersion),
}

// Every number that the header defines is here, with its value, and no other.
func TestConstantsAreTheHeaders(t *testing.T) {
	header, err := os.ReadFile(filepath.Join("..", "..", "include", "ringmsg.h"))
	if err != nil {
		t.Skip("not in a checkout: ", err)
	}
	define := regexp.MustCompile(`(?m)^#define RINGMSG_([A-Z0-9_]+) (\(?[0-9xa-fu <]+\)?)$`)
	found := map[string]bool{}
	for _, line := range define.FindAllStringSubmatch(string(header), -1) {
		name := line[1]
		value, known := constants[name]
		if !known {
			t.Errorf("RINGMSG_%s is not in this package", name)
			continue
		}
		found[name] = true
		if want := evaluate(t, line[2]); value != want {
			t.Errorf("RINGMSG_%s is %d, not %d", name, want, value)
		}
	}
	for name := range constants {
		if !found[name] {
			t.Errorf("RINGMSG_%s is not in the header", name)
		}
	}
}

func evaluate(t *testing.T, text string) uint64 {
	parts := strings.Split(strings.Trim(text, "()"), "<<")
	numbers := make([]uint64, len(parts))
	for i, part := range parts {
		number, err := strconv.ParseUint(strings.TrimRight(strings.TrimSpace(part), "u"), 0, 64)
		if err != nil {
			t.Fatal(text, err)
		}
		numbers[i] = number
	}
	if len(numbers) == 2 {
		return numbers[0] << numbers[1]
	}
	return numbers[0]
}
