// Package abigen writes what the Go package shares with the library's C header: constants, the
// structs whose arrays both sides read, and checks that the compiler makes of their layouts. The
// header is the only place where any of it is spelled; `go generate ./uring` runs this package.
package abigen

import (
	"bytes"
	"errors"
	"fmt"
	"go/format"
	"regexp"
	"strings"
)

// group says how the constants of one prefix are declared.
type group struct {
	prefix string // in C, after RINGMSG_
	goName string // what takes its place in Go
	goType string
	about  string // the comment of the type; empty: the type is Go's own
}

var groups = []group{
	{"SETUP_", "Setup", "SetupFlags",
		"SetupFlags are the setup flags of a ring: [RingConfig].Flags. They mirror RINGMSG_SETUP_*."},
	{"ENGINE_", "Engine", "Engine", "Engine is what moves the data of a ring. It mirrors RINGMSG_ENGINE_*."},
	{"FEATURE_", "Feature", "Features",
		"Features are what a kernel offers: [RingInfo].Features. They mirror RINGMSG_FEATURE_*."},
	{"RECV_", "Recv", "RecvFlags", "RecvFlags are the flags of a receive request. They mirror RINGMSG_RECV_*."},
	{"RECORD_", "Record", "RecordFlags",
		"RecordFlags are the flags of a [Record]. They mirror RINGMSG_RECORD_*."},
	{"META_", "Meta", "Meta", "Meta is a set of the things that can be known about a datagram " +
		"besides its payload. It mirrors RINGMSG_META_*."},
	{"PATH_", "Path", "PathFlags",
		"PathFlags say which fields of a [Path] apply. They mirror RINGMSG_PATH_*."},
	{"MESSAGE_", "Message", "MessageFlags",
		"MessageFlags are the flags of a [SendMessage]. They mirror RINGMSG_MESSAGE_*."},
	{"SENDER_", "Sender", "SenderFlags",
		"SenderFlags are the flags of a [Sender]: [SenderConfig].Flags. They mirror RINGMSG_SENDER_*."},
	{"SEND_", "Send", "SendFlags",
		"SendFlags say how a [Sender] sends a batch. They mirror RINGMSG_SEND_*."},
	{"POOL_NONE", "PoolNone", "uint16", ""},
	{"LINGER_", "linger", "uint32", ""},
	{"STEER_", "steer", "uint32", ""},
	{"ABI_VERSION", "abiVersion", "uint32", ""},
}

// structure says how one struct is declared.
type structure struct {
	cName, goName string
	about         string
	skip          []string          // fields that Go does not have: a head that the shim fills in
	rename        map[string]string // fields whose Go name is not the C name in Go's spelling
	types         map[string]string // fields with a type of their own
	abouts        map[string]string // fields whose comment is not the header's
}

var structures = []structure{
	{
		cName: "ringmsg_record", goName: "Record",
		about: "Record is one datagram, one GRO train, one chunk of a stream, or one error. It is struct\n" +
			"ringmsg_record, byte for byte; its offsets count from the start of [Pool.Bytes].",
		types: map[string]string{"flags": "RecordFlags"},
	},
	{
		cName: "ringmsg_metadata", goName: "Metadata",
		about: "Metadata is what the control messages and the source address of a datagram say. It is struct\n" +
			"ringmsg_metadata, byte for byte: a field means something only if its bit is set in Valid.",
		rename: map[string]string{
			"source": "SourceBytes", "destination": "DestinationBytes",
			"local_v4": "LocalV4Bytes", "offender": "OffenderBytes",
		},
		types: map[string]string{"valid": "Meta"},
	},
	{
		cName: "ringmsg_stats", goName: "Stats",
		about: "Stats counts what a ring, or one request, has done so far: struct ringmsg_stats without its head.",
		skip:  []string{"size", "reserved"},
	},
	{
		cName: "ringmsg_path", goName: "Path",
		about: "Path is where a datagram goes, and how it leaves. It is struct ringmsg_path, byte for byte:\n" +
			"comparable, and compared as a whole when messages are grouped. The zero Path is that of the\n" +
			"connected peer. [PathTo] makes one for an address, [PathReply] one for an answer.",
		rename: map[string]string{"remote": "RemoteBytes", "local": "LocalBytes"},
		types:  map[string]string{"valid": "PathFlags"},
	},
	{
		cName: "ringmsg_message", goName: "SendMessage",
		about: "SendMessage is one datagram to send, or one train of them. It is struct ringmsg_message, byte\n" +
			"for byte, as [Sender.SendFrom] takes it: without a pointer.",
		rename: map[string]string{"payload": "PayloadOffset", "path": "PathIndex"},
		types: map[string]string{
			"payload": "uint64", "path": "uint64", "flags": "MessageFlags",
		},
		abouts: map[string]string{
			"payload": "Where the payload starts, counted from the base.",
			"path":    "Which of the paths it takes; [PathNone] for the connected peer's.",
		},
	},
	{
		cName: "ringmsg_sender_stats", goName: "SenderStats",
		about: "SenderStats counts what a sender has done so far: struct ringmsg_sender_stats without its head.",
		skip:  []string{"size", "last_socket_error"},
	},
}

// functions are named in the header's comments; Go's documentation names their methods.
var functions = strings.NewReplacer(
	"ringmsg_release()", "[Ring.Release]", "ringmsg_ring_info()", "[Ring.Info]",
	"ringmsg_ring_enable()", "[Ring.Enable]",
	"ringmsg_ring_new()", "[NewRing]", "ringmsg_recvmsg()", "[Ring.Recvmsg]",
	"ringmsg_wait.linger_us", "[Wait].Linger",
	"ringmsg_ring_fd()", "[Ring.FD]", "ringmsg_ring_stats()", "[Ring.Stats]",
	"ringmsg_describe_support()", "[DescribeSupport]",
	"ringmsg_reap()", "[Ring.Reap]", "ringmsg_next()", "[Ring.Next]", "ringmsg_cancel()", "[Ring.Cancel]",
)

// words that Go spells in its own way.
var words = map[string]string{
	"SQPOLL": "SQPoll", "IO": "IO", "URING": "URing", "V4": "V4", "US": "US", "NS": "NS", "CQ": "CQ", "R": "", "ID": "ID",
}

func camel(name string) (camel string) {
	for word := range strings.SplitSeq(name, "_") {
		upper := strings.ToUpper(word)
		if special, found := words[upper]; found {
			camel += special
		} else if word != "" {
			camel += upper[:1] + strings.ToLower(word[1:])
		}
	}
	return camel
}

const preamble = "// Code generated from include/ringmsg.h by go generate; DO NOT EDIT.\n\n"

var (
	defines = regexp.MustCompile(
		`(?m)((?:^/\*\n(?: \*.*\n)+? \*/\n)?)^#define RINGMSG_([A-Z0-9_]+) (\(?[0-9xa-fu <]+\)?)$`,
	)
	fields  = regexp.MustCompile(`(?:/\*([^/]*)\*/\s*)?((?:const struct |const )?[a-z0-9_]+) \*?([a-z0-9_]+)((?:\[[0-9]+\])?);`)
	mention = regexp.MustCompile(`RINGMSG_([A-Z0-9_]+[A-Z0-9])`)
)

// Generate returns the two files: the declarations, and the checks against the C header.
func Generate(header string) (declarations, checks []byte, err error) {
	var out, check, variables, heads bytes.Buffer
	out.WriteString(preamble + "package uring\n")
	if err := constants(&out, header); err != nil {
		return nil, nil, err
	}
	for _, s := range structures {
		if err := s.declare(&out, &check, header); err != nil {
			return nil, nil, err
		}
		if s.skip != nil {
			fmt.Fprintf(&heads, "const head%s = unsafe.Offsetof(c%s.%s)\n\n", s.goName, s.goName, s.first(header))
		}
		fmt.Fprintf(&variables, "c%s C.struct_%s\ngo%s %s\n", s.goName, s.cName, s.goName, s.goName)
	}
	all := fmt.Sprintf(
		"%s%svar (\n%s)\n\n%svar _ = []struct{}{\n%s}\n", preamble, checksHead, &variables, &heads, &check,
	)
	if declarations, err = format.Source(out.Bytes()); err != nil {
		return nil, nil, fmt.Errorf("%w in %s", err, &out)
	}
	checks, err = format.Source([]byte(all))
	return declarations, checks, err
}

const checksHead = `//go:build linux && cgo

package uring

// #include "shim.h"
import "C"

import "unsafe"

// The structs are the header's, byte for byte. Each line fails to compile when the header that the
// compiler finds has a field somewhere else: an index into an array of one must be 0.
var only [1]struct{}

`

// goName returns the Go name of a constant, without RINGMSG_ in front.
func goName(name string) (string, *group) {
	for i := range groups {
		if rest, found := strings.CutPrefix(name, groups[i].prefix); found {
			return groups[i].goName + camel(rest), &groups[i]
		}
	}
	return "", nil
}

func constants(out *bytes.Buffer, header string) error {
	blocks := map[*group]*bytes.Buffer{}
	for _, found := range defines.FindAllStringSubmatch(header, -1) {
		name, in := goName(found[2])
		if in == nil {
			return fmt.Errorf("abigen has no rule for RINGMSG_%s", found[2])
		}
		if blocks[in] == nil {
			blocks[in] = &bytes.Buffer{}
		}
		value := strings.ReplaceAll(strings.Trim(found[3], "()"), "u", "")
		fmt.Fprintf(blocks[in], "%s%s %s = %s\n", comment(found[1], "\t"), name, in.goType, value)
	}
	for i := range groups {
		if groups[i].about != "" {
			fmt.Fprintf(out, "\n%stype %s uint32\n", comment(groups[i].about, ""), groups[i].goType)
		}
		if blocks[&groups[i]] == nil {
			return fmt.Errorf("the header has no RINGMSG_%s", groups[i].prefix)
		}
		fmt.Fprintf(out, "\nconst (\n%s)\n", blocks[&groups[i]])
	}
	return nil
}

func (s *structure) declare(out, check *bytes.Buffer, header string) error {
	body := s.body(header)
	if body == "" {
		return errors.New("the header has no struct " + s.cName)
	}
	fmt.Fprintf(out, "\n%stype %s struct {\n", comment(s.about, ""), s.goName)
	head := ""
	for _, field := range fields.FindAllStringSubmatch(body, -1) {
		about, cType, cName, array := field[1], field[2], field[3], field[4]
		if contains(s.skip, cName) {
			continue
		}
		name, goType := s.rename[cName], s.types[cName]
		if own, has := s.abouts[cName]; has {
			about = own
		}
		switch {
		case name != "":
		case strings.HasPrefix(cName, "reserved"):
			name, about = cName, ""
		default:
			name = camel(cName)
		}
		if goType == "" {
			goType = array + strings.TrimSuffix(cType, "_t")
		}
		fmt.Fprintf(out, "%s%s %s\n", comment(about, "\t"), name, goType)
		if s.skip != nil && head == "" {
			head = " - head" + s.goName
		}
		theirs, ours := fmt.Sprintf("(c%s.%s)", s.goName, escape(cName)), fmt.Sprintf("(go%s.%s)", s.goName, name)
		const at, size = "unsafe.Offsetof", "unsafe.Sizeof"
		fmt.Fprintf(check, "\tonly[%s%s%s - %s%s],\n", at, theirs, head, at, ours)
		fmt.Fprintf(check, "\tonly[%s%s - %s%s],\n", size, theirs, size, ours)
	}
	out.WriteString("}\n")
	fmt.Fprintf(check, "\tonly[unsafe.Sizeof(c%s)%s - unsafe.Sizeof(go%s)],\n", s.goName, head, s.goName)
	return nil
}

// body returns the fields of the struct as the header has them.
func (s *structure) body(header string) string {
	_, body, _ := strings.Cut(header, "struct "+s.cName+" {\n")
	body, _, _ = strings.Cut(body, "\n};")
	return body
}

// first returns the first field that Go has.
func (s *structure) first(header string) string {
	for _, field := range fields.FindAllStringSubmatch(s.body(header), -1) {
		if !contains(s.skip, field[3]) {
			return field[3]
		}
	}
	return ""
}

// escape is how cgo names a C field that is a keyword in Go.
func escape(field string) string {
	if field == "type" {
		return "_type"
	}
	return field
}

// comment makes a Go comment, wrapped at 100 columns, of a C comment or of plain text.
func comment(text, indent string) string {
	text = functions.Replace(strings.NewReplacer("/*", " ", "*/", " ").Replace(text))
	text = mention.ReplaceAllStringFunc(text, func(name string) string {
		if is, _ := goName(strings.TrimPrefix(name, "RINGMSG_")); is != "" && is[0] >= 'A' && is[0] <= 'Z' {
			return "[" + is + "]"
		}
		return name
	})
	var out strings.Builder
	line := ""
	for word := range strings.FieldsSeq(text) {
		if word == "*" { // the margin of a C comment
			continue
		}
		if 4*len(indent)+len("// ")+len(line)+len(word) > 100 {
			out.WriteString(indent + "//" + line + "\n")
			line = ""
		}
		line += " " + word
	}
	if line != "" {
		out.WriteString(indent + "//" + line + "\n")
	}
	return out.String()
}

func contains(list []string, wanted string) bool {
	for _, entry := range list {
		if entry == wanted {
			return true
		}
	}
	return false
}
