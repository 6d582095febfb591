// Write runs package abigen: it reads the header that its first argument names and writes the Go
// files that the other two name.
package main

import (
	"log"
	"os"

	"github.com/ringmsg/ringmsg/bindings/go/internal/abigen"
)

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: write HEADER DECLARATIONS CHECKS")
	}
	header, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	declarations, checks, err := abigen.Generate(string(header))
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(os.Args[2], declarations, 0o644); err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(os.Args[3], checks, 0o644); err != nil {
		log.Fatal(err)
	}
}
