package uring_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ringmsg/ringmsg/bindings/go/internal/abigen"
)

// The constants and structs of this package are the header's: what `go generate` would write is
// what is committed. (That the structs have the header's layout is checked by the compiler.)
func TestTheGeneratedFilesAreUpToDate(t *testing.T) {
	header, err := os.ReadFile(filepath.Join("..", "..", "..", "include", "ringmsg.h"))
	if err != nil {
		t.Skip("not in a checkout: ", err)
	}
	declarations, checks, err := abigen.Generate(string(header))
	if err != nil {
		t.Fatal(err)
	}
	for name, wanted := range map[string][]byte{"abi.go": declarations, "abi_cgo.go": checks} {
		committed, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if string(committed) != string(wanted) {
			t.Errorf("%s is out of date: run go generate in this folder", name)
		}
	}
}
