package main

import (
	"context"
	"flag"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// reader reads all objects once, and returns how many there were.
type reader func(ctx context.Context, in *space, client *clientv3.Client, page int64) (int, error)

// listing is a workload of whole lists, one after the other, each on the next connection.
func listing(read reader) command {
	return func(flags *flag.FlagSet) func(target) error {
		in := spaceFlags(flags)
		lists := flags.Int("lists", 10, "how often")
		page := flags.Int64("page", 500, "objects of a page, where there are pages; 0: all in one")
		return func(to target) error {
			ctx, cancel, err := in.open(to)
			if err != nil {
				return err
			}
			defer cancel()
			result, err := inFlight(ctx, *lists, 1, func(ctx context.Context, _, number int) error {
				found, err := read(ctx, in, in.client(number), *page)
				if err == nil && found != in.total {
					err = fmt.Errorf("%d objects instead of %d", found, in.total)
				}
				return err
			})
			if err != nil {
				return err
			}
			result.Objects = *lists * in.total
			say(result)
			return nil
		}
	}
}

// pages are read at the revision of the first, each from behind the last key of the one before.
func pages(ctx context.Context, in *space, client *clientv3.Client, page int64) (int, error) {
	from, found := in.prefix, 0
	options := []clientv3.OpOption{clientv3.WithRange(clientv3.GetPrefixRangeEnd(in.prefix)), clientv3.WithLimit(page)}
	for {
		answer, err := client.Get(ctx, from, options...)
		if err != nil {
			return found, err
		}
		if found == 0 {
			options = append(options, clientv3.WithRev(answer.Header.Revision))
		}
		found += len(answer.Kvs)
		if !answer.More || len(answer.Kvs) == 0 {
			return found, nil
		}
		from = string(answer.Kvs[len(answer.Kvs)-1].Key) + "\x00"
	}
}

// chunks come by RangeStream.
func chunks(ctx context.Context, in *space, client *clientv3.Client, _ int64) (int, error) {
	stream, err := client.GetStream(ctx, in.prefix, clientv3.WithPrefix())
	if err != nil {
		return 0, err
	}
	found := 0
	for chunk := range stream {
		if err := chunk.Err(); err != nil {
			return found, err
		}
		if chunk.RangeResponse != nil {
			found += len(chunk.RangeResponse.Kvs)
		}
	}
	return found, nil
}
