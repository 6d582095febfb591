//go:build linux

package ringmsg

import (
	"errors"
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

func messagesOf(count, size, oob int) []ipv4.Message {
	messages := make([]ipv4.Message, count)
	for i := range messages {
		messages[i].Buffers = [][]byte{make([]byte, size)}
		messages[i].OOB = make([]byte, oob)
	}
	return messages
}

// readMessages calls ReadBatch until it has that many.
func readMessages(t testing.TB, conn *Conn, count, size, oob int) []ipv4.Message {
	t.Helper()
	ok(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	messages := messagesOf(count, size, oob)
	for n := 0; n < count; {
		more, err := conn.ReadBatch(messages[n:], 0)
		ok(t, err)
		n += more
	}
	return messages
}

func TestReadBatchGivesOneDatagramToEachMessage(t *testing.T) {
	conn, peer := listen(t)
	for i := range 5 {
		write(t, peer, strconv.Itoa(i))
	}
	write(t, peer, "")
	sendTrain(t, peer, make([]byte, 3*100+1), 100)
	write(t, peer, "too long for it"+string(make([]byte, 100)))
	messages := readMessages(t, conn, 11, 100, 128)
	for i := range 5 {
		equal(t, "payload", string(messages[i].Buffers[0][:messages[i].N]), strconv.Itoa(i))
		equal(t, "flags", messages[i].Flags&(msgTrunc|msgCtrunc), 0)
		equal(t, "control", messages[i].NN, 0)
		equal(t, "source", messages[i].Addr.String(), peer.LocalAddr().String())
	}
	for i, size := range []int{0, 100, 100, 100, 1, 100} {
		equal(t, "size", messages[5+i].N, size)
		equal(t, "control", messages[5+i].NN, 0)
		equal(t, "cut", messages[5+i].Flags&msgTrunc != 0, i == 5)
	}
}

func TestReadBatchFillsSeveralBuffers(t *testing.T) {
	conn, peer := listen(t)
	write(t, peer, "abcdefgh")
	messages := []ipv4.Message{{Buffers: [][]byte{make([]byte, 3), nil, make([]byte, 10)}}}
	n, err := conn.ReadBatch(messages, 0)
	ok(t, err)
	equal(t, "messages", n, 1)
	equal(t, "payload", string(messages[0].Buffers[0])+string(messages[0].Buffers[2][:5]), "abcdefgh")
}

// A program that gets the Conn and then asks for the traffic class, as quic-go does, finds it in
// 128 bytes of control messages, and finds nothing that the Conn has switched on for itself.
func TestReadBatchShowsTheProgramsControlMessages(t *testing.T) {
	conn, err := Listen("udp", ":0", WithReplyFromDestination())
	ok(t, err)
	defer conn.Close()
	port := conn.LocalAddr().(*net.UDPAddr).Port
	peer := sender(t, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	ok(t, unix.SetsockoptInt(descriptorOf(t, peer), unix.IPPROTO_IP, unix.IP_TOS, int(ECNCapable0)))

	// Before the program asks, it is shown nothing.
	write(t, peer, "x")
	equal(t, "control", readMessages(t, conn, 1, 10, 512)[0].NN, 0)

	raw, err := conn.SyscallConn()
	ok(t, err)
	ok(t, raw.Control(func(fd uintptr) {
		on, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO)
		ok(t, err)
		equal(t, "IP_PKTINFO, as the program set it", on, 0)
		for _, option := range [][2]int{
			{unix.IPPROTO_IP, unix.IP_RECVTOS}, {unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO},
		} {
			ok(t, unix.SetsockoptInt(int(fd), option[0], option[1], 1))
		}
	}))
	for range 50 {
		write(t, peer, string(make([]byte, 100)))
	}
	sendTrain(t, peer, make([]byte, 1000), 100)
	seen := map[controlType]bool{}
	for _, message := range readMessages(t, conn, 60, 100, 128) {
		equal(t, "cut", message.Flags&msgCtrunc, 0)
		all, err := unix.ParseSocketControlMessage(message.OOB[:message.NN])
		ok(t, err)
		for _, cmsg := range all {
			seen[controlType{cmsg.Header.Level, cmsg.Header.Type}] = true
			if cmsg.Header.Level == unix.IPPROTO_IP && cmsg.Header.Type == unix.IP_TOS {
				equal(t, "ECN", ECN(cmsg.Data[0]&3), ECNCapable0)
			}
		}
	}
	equal(t, "traffic class", seen[controlType{unix.IPPROTO_IP, unix.IP_TOS}], true)
	equal(t, "IPV6_PKTINFO, of both", seen[controlType{unix.IPPROTO_IPV6, unix.IPV6_PKTINFO}], true)
	equal(t, "UDP_GRO", seen[groType], false)
	equal(t, "IP_PKTINFO, the Conn's own", seen[controlType{unix.IPPROTO_IP, unix.IP_PKTINFO}], false)
}

func TestControlMessagesAreCutBetweenMessages(t *testing.T) {
	one := func(kind int32, data int) []byte {
		header := unix.Cmsghdr{Type: kind}
		header.SetLen(unix.CmsgLen(data))
		message := make([]byte, unix.CmsgSpace(data))
		putHeader(message, &header)
		return message
	}
	both := append(append(one(1, 4), one(9, 100)...), one(2, 1)...)
	first, whole := unix.CmsgLen(4), unix.CmsgSpace(4)
	second, all := whole+unix.CmsgLen(1), whole+unix.CmsgSpace(1)
	for _, c := range []struct {
		room, n int
		cut     bool
	}{
		{0, 0, true}, {first - 1, 0, true}, {first, first, true}, {whole, whole, true},
		{second - 1, whole, true}, {second, second, false}, {all, all, false}, {100, all, false},
	} {
		to := make([]byte, c.room)
		n, cut := copyControl(to, both, []controlType{{0, 9}})
		equal(t, "length in "+strconv.Itoa(c.room), n, c.n)
		equal(t, "cut in "+strconv.Itoa(c.room), cut, c.cut)
	}
	for size := range both { // what the kernel itself has cut
		if n, _ := copyControl(make([]byte, 200), both[:size], nil); n > size {
			t.Fatal(n, size)
		}
	}
}

func TestReadBatchErrors(t *testing.T) {
	conn, _ := listen(t)
	if _, err := conn.ReadBatch(messagesOf(1, 1, 0), unix.MSG_PEEK); !errors.Is(err, syscall.EINVAL) {
		t.Fatal(err)
	}
	ok(t, conn.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	if _, err := conn.ReadBatch(messagesOf(4, 1, 0), 0); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	ok(t, conn.Close())
	if _, err := conn.ReadBatch(messagesOf(4, 1, 0), 0); !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
}
