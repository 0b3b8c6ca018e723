package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"
)

// idle holds what idle API servers hold: each has a certificate of its own, a connection for each kind of resource, and
// watches on most of these. It says when all are there, and ends with its input.
func idle(flags *flag.FlagSet) func(target) error {
	conns := flags.Int("conns", 69, "connections of one")
	watches := flags.Int("watches", 62, "watches of one, on a connection each")
	return func(to target) error {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		certificates, keys := strings.Split(to.certificate, ","), strings.Split(to.key, ",")
		if len(certificates) != len(keys) {
			return fmt.Errorf("there are %d certificates and %d keys", len(certificates), len(keys))
		}
		for number := range certificates {
			one := to
			one.certificate, one.key = certificates[number], keys[number]
			if err := one.settle(ctx, *conns, *watches); err != nil {
				return err
			}
		}
		say(map[string]int{"idle": len(certificates)})
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	}
}

func (to target) settle(ctx context.Context, conns, watches int) error {
	clients, err := to.connect(conns)
	if err != nil {
		return err
	}
	var some errgroup.Group
	some.SetLimit(8)
	for number, client := range clients {
		some.Go(func() error {
			resource := fmt.Sprintf("/registry/resource-%02d/", number)
			answer, err := client.Get(ctx, resource)
			if err != nil || number >= watches {
				return err
			}
			watch, err := openWatch(ctx, client)
			if err != nil {
				return err
			}
			if err := watch.watch(resource, resource[:len(resource)-1]+"0", answer.Header.Revision+1); err != nil {
				return err
			}
			return watch.until(1, isCreated)
		})
	}
	return some.Wait()
}
