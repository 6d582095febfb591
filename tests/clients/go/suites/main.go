// Suites runs the test suites of packages from the module proxy twice: as they are, and with one
// line changed so that the package reads and writes a ringmsg.Conn wherever it would have used a
// *net.UDPConn. A test counts as different if it passes on one of the two only, in three runs.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A suite is a module, the change that brings the Conn in, and the packages whose tests are run.
type suite struct {
	module, version string
	file, from, to  string
	packages        []string
	arguments       []string
}

const binding = "github.com/ringmsg/ringmsg/bindings/go"

var suites = []suite{
	{
		module: "github.com/quic-go/quic-go", version: "v0.65.0",
		file: "sys_conn.go",
		from: "func wrapConn(pc net.PacketConn) (rawConn, error) {\n",
		to: "func wrapConn(pc net.PacketConn) (rawConn, error) {\n" +
			"\tif udp, is := pc.(*net.UDPConn); is {\n\t\tconn, err := ringmsg.NewConn(udp)\n" +
			"\t\tif err != nil {\n\t\t\treturn nil, err\n\t\t}\n\t\tpc = conn\n\t}\n",
		packages:  []string{"./integrationtests/self", "./integrationtests/versionnegotiation", "./http3"},
		arguments: []string{"-timeout=10m"},
	},
	{
		module: "github.com/libp2p/go-libp2p", version: "v0.51.0",
		file:     "p2p/transport/quicreuse/connmgr.go",
		from:     "\treturn net.ListenUDP(network, laddr)\n",
		to:       "\treturn ringmsg.Listen(network, laddr.String(), ringmsg.WithReplyFromDestination())\n",
		packages: []string{"./p2p/transport/quic", "./p2p/transport/quicreuse"},
	},
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// command runs a program in a folder, and returns what it printed.
func command(folder string, name string, arguments ...string) []byte {
	c := exec.Command(name, arguments...)
	c.Dir, c.Stderr = folder, os.Stderr
	out, err := c.Output()
	if err != nil {
		check(fmt.Errorf("%s %s: %w", name, strings.Join(arguments, " "), err))
	}
	return out
}

// unpack copies the module to a folder where it can be changed.
func (s *suite) unpack(folder string) {
	var found struct{ Dir string }
	module := s.module + "@" + s.version
	fmt.Println("downloading", module, "and what its tests need")
	check(json.Unmarshal(command(".", "go", "mod", "download", "-json", module), &found))
	check(os.RemoveAll(folder))
	check(os.MkdirAll(filepath.Dir(folder), 0o755))
	command(".", "cp", "-r", found.Dir, folder)
	command(".", "chmod", "-R", "u+w", folder)
}

// change brings the Conn in.
func (s *suite) change(folder, checkout string) {
	path := filepath.Join(folder, s.file)
	text, err := os.ReadFile(path)
	check(err)
	changed := strings.Replace(string(text), s.from, s.to, 1)
	if changed == string(text) {
		check(fmt.Errorf("%s: the line to change is not there", path))
	}
	changed = strings.Replace(changed, "import (\n", "import (\n\tringmsg \""+binding+"\"\n", 1)
	check(os.WriteFile(path, []byte(changed), 0o644))
	replace := "-replace=" + binding + "=" + filepath.Join(checkout, "bindings", "go")
	command(folder, "go", "mod", "edit", "-require="+binding+"@v0.0.0", replace)
	command(folder, "go", "mod", "tidy")
}

// test runs tests, and returns which ones passed and which failed.
func (s *suite) test(folder string, only []string) map[string]bool {
	arguments := append([]string{"test", "-json", "-count=1"}, s.arguments...)
	if only != nil {
		names := map[string]bool{}
		for _, test := range only {
			_, name, _ := strings.Cut(test, " ")
			name, _, _ = strings.Cut(name, "/")
			names[name] = true
		}
		var pattern []string
		for name := range names {
			pattern = append(pattern, "^"+name+"$")
		}
		arguments = append(arguments, "-run="+strings.Join(pattern, "|"))
	}
	c := exec.Command("go", append(arguments, s.packages...)...)
	c.Dir, c.Stderr = folder, os.Stderr
	out, _ := c.Output() // failures are reported line by line
	results := map[string]bool{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var event struct{ Action, Package, Test string }
		if json.Unmarshal(lines.Bytes(), &event) != nil {
			continue
		}
		if event.Action == "pass" || event.Action == "fail" {
			results[strings.TrimPrefix(event.Package, s.module)+" "+event.Test] = event.Action == "pass"
		}
	}
	return results
}

// differences returns the tests that passed on one side only.
func differences(theirs, ours map[string]bool) (names []string) {
	for name, passed := range theirs {
		if ours[name] != passed {
			names = append(names, name)
		}
	}
	for name := range ours {
		if _, known := theirs[name]; !known {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func count(results map[string]bool) (passed, failed int) {
	for _, ok := range results {
		if ok {
			passed++
		} else {
			failed++
		}
	}
	return passed, failed
}

// run runs a suite on both, and reports whether the results are equal.
func (s *suite) run(build, checkout string) bool {
	name := filepath.Base(s.module)
	plain, changed := filepath.Join(build, name+"-net"), filepath.Join(build, name+"-ringmsg")
	s.unpack(plain)
	s.unpack(changed)
	s.change(changed, checkout)
	theirs, ours := s.test(plain, nil), s.test(changed, nil)
	different := differences(theirs, ours)
	for range 2 { // upstream's tests are not all steady
		if len(different) == 0 {
			break
		}
		theirsAgain, oursAgain := s.test(plain, different), s.test(changed, different)
		for test, passed := range theirsAgain {
			theirs[test] = theirs[test] || passed
		}
		for test, passed := range oursAgain {
			ours[test] = ours[test] || passed
		}
		different = differences(theirs, ours)
	}
	passed, failed := count(theirs)
	fmt.Printf("%-28s net      %4d tests passed, %d failed\n", name+" "+s.version, passed, failed)
	passed, failed = count(ours)
	fmt.Printf("%-28s ringmsg  %4d tests passed, %d failed, %d different\n", "", passed, failed, len(different))
	for _, test := range different {
		fmt.Println("  ", test, "net:", theirs[test], "ringmsg:", ours[test])
	}
	return len(different) == 0 && len(theirs) > 0
}

func main() {
	if len(os.Args) < 3 {
		check(fmt.Errorf("usage: suites BUILD-FOLDER CHECKOUT [name]"))
	}
	build, err := filepath.Abs(os.Args[1])
	check(err)
	checkout, err := filepath.Abs(os.Args[2])
	check(err)
	equal := true
	for i := range suites {
		if len(os.Args) > 3 && !strings.Contains(suites[i].module, os.Args[3]) {
			continue
		}
		equal = suites[i].run(build, checkout) && equal
	}
	if !equal {
		os.Exit(1)
	}
}
