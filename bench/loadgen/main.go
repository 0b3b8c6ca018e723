// Command loadgen drives an etcd endpoint for fetch's benchmark, as a Kubernetes API server would, or as nobody should.
//
// It prints one JSON object a line: the figures of a workload, or how far it has come. Workloads speak through etcd's
// own Go client, so that what is measured of fetch, of etcd and of kine was asked for by the same program.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// A command takes its own flags from the set, and returns what is run once they have been parsed.
type command func(flags *flag.FlagSet) func(target) error

var commands = map[string]command{
	"create":    single(create),
	"get":       single(get),
	"update":    single(update),
	"delete":    single(remove),
	"put":       single(put),
	"list":      listing(pages),
	"stream":    listing(chunks),
	"watch":     watch,
	"neighbour": neighbour,
	"hostile":   hostile,
	"idle":      idle,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		names := make([]string, 0, len(commands))
		for name := range commands {
			names = append(names, name)
		}
		slices.Sort(names)
		fail(fmt.Errorf("usage: loadgen COMMAND [FLAG…], of %s", strings.Join(names, ", ")))
	}
	name := os.Args[1]
	flags := flag.NewFlagSet(name, flag.ExitOnError)
	to := targetFlags(flags)
	run := commands[name](flags)
	_ = flags.Parse(os.Args[2:]) // it exits by itself
	if err := run(*to); err != nil {
		fail(fmt.Errorf("%s: %w", name, err))
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "loadgen:", err)
	os.Exit(1)
}

func say(record any) {
	line, err := json.Marshal(record)
	if err != nil {
		fail(err)
	}
	fmt.Println(string(line))
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
