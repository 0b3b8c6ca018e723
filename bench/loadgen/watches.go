package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// watch times events from when their write was sent until each of the watchers has them. The number of a write stands
// in the first bytes of its value.
func watch(flags *flag.FlagSet) func(target) error {
	in := spaceFlags(flags)
	watchers := flags.Int("watchers", 50, "watches of all objects")
	events := flags.Int("events", 500, "writes that they see")
	return func(to target) error {
		ctx, cancel, err := in.open(to)
		if err != nil {
			return err
		}
		defer cancel()
		sent := make([]atomic.Int64, *events)
		took := make([][]time.Duration, *watchers)
		var created, done sync.WaitGroup
		watching := clientv3.WithRequireLeader(ctx)
		created.Add(*watchers)
		for number := range *watchers {
			done.Go(func() { took[number] = follow(watching, in, in.client(number), sent, created.Done) })
		}
		created.Wait()
		value := []byte(in.value())
		began := time.Now()
		_, err = inFlight(ctx, *events, in.clients, func(ctx context.Context, worker, number int) error {
			numbered := slices.Clone(value)
			binary.BigEndian.PutUint64(numbered, uint64(number))
			sent[number].Store(int64(time.Since(epoch)))
			_, err := in.client(worker).Put(ctx, in.object(number%in.total), string(numbered))
			return err
		})
		if err != nil {
			return err
		}
		done.Wait()
		elapsed := time.Since(began)
		all := slices.Concat(took...)
		if len(all) != *watchers**events {
			return fmt.Errorf("%d events arrived, of %d", len(all), *watchers**events)
		}
		say(summed(all, elapsed))
		return nil
	}
}

// epoch is what moments are counted from.
var epoch = time.Now()

// follow watches all objects until it has seen each write, or the context ends; it returns how long each was under way.
func follow(ctx context.Context, in *space, client *clientv3.Client, sent []atomic.Int64, created func()) []time.Duration {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	created = sync.OnceFunc(created)
	defer created() // nobody shall wait for a watch that has failed
	var took []time.Duration
	options := []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify()}
	for answer := range client.Watch(ctx, in.prefix, options...) {
		now := time.Since(epoch)
		if answer.Created {
			created()
		}
		for _, event := range answer.Events {
			number := binary.BigEndian.Uint64(event.Kv.Value)
			took = append(took, now-time.Duration(sent[number].Load()))
		}
		if len(took) >= len(sent) {
			break
		}
	}
	return took
}
