//go:build linux

package testkit

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

const inNamespace = "RINGMSG_TEST_IN_NAMESPACE"

// Namespace runs a test in a network of its own, in a child process, and returns true in the child:
// there the test goes on. The commands are arguments of ip(8), such as "link set lo up", or begin
// with tc.
func Namespace(t *testing.T, commands ...string) bool {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin") // where an ordinary user's does not look for tc
	if os.Getenv(inNamespace) != "" {
		for _, command := range commands {
			words := strings.Fields("ip " + command)
			if words[1] == "tc" {
				words = words[1:]
			}
			out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
			if err != nil && words[0] == "tc" && strings.Contains(string(out), "unknown") {
				t.Skipf("this kernel cannot do it: %s\n%s", command, out)
			}
			if err != nil {
				t.Fatalf("%s: %v\n%s", command, err, out)
			}
		}
		for _, command := range commands {
			waitForAddress(t, strings.Fields(command))
		}
		return true
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs ip(8), package iproute2: ", err)
	}
	child := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=60s")
	child.Env = append(os.Environ(), inNamespace+"=1")
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	out, err := child.CombinedOutput()
	if pathError, is := err.(*os.PathError); is {
		t.Skip("no namespaces here: ", pathError)
	}
	if err != nil {
		t.Fatalf("%v in a network of its own:\n%s", err, out)
	}
	if strings.Contains(string(out), "--- SKIP") || strings.Contains(string(out), "no tests to run") {
		t.Skipf("skipped in its network:\n%s", out)
	}
	return false
}

// waitForAddress waits until an IPv6 address that was added is local: the kernel makes it so in the
// background.
func waitForAddress(t *testing.T, command []string) {
	if len(command) < 5 || command[0] != "addr" || !strings.Contains(command[2], ":") {
		return
	}
	address, _, _ := strings.Cut(command[2], "/")
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		out, _ := exec.Command("ip", "-6", "route", "get", address, "oif", command[4]).CombinedOutput()
		if strings.HasPrefix(string(out), "local ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not local: %s", address, out)
		}
	}
}
