//go:build linux

package testkit

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

const inNamespace = "RINGMSG_TEST_IN_NAMESPACE"

// Namespace runs a test in a network of its own, in a child process, and returns true in the child:
// there the test goes on. The commands are arguments of ip(8), such as "link set lo up".
func Namespace(t *testing.T, commands ...string) bool {
	t.Helper()
	if os.Getenv(inNamespace) != "" {
		for _, command := range commands {
			if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
				t.Fatalf("ip %s: %v\n%s", command, err, out)
			}
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
