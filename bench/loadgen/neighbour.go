package main

import (
	"context"
	"flag"
	"slices"
	"sync"
	"time"
)

// neighbour gets and creates objects at a steady rate, whatever becomes of them, and times each from when it was due: a
// client that waited for its answers would ask the less, the longer an endpoint makes it wait, and would not notice.
//
// It says `{"ready":true}` when it begins.
func neighbour(flags *flag.FlagSet) func(target) error {
	clients := flags.Int("clients", 8, "clients, a connection each")
	rate := flags.Float64("rate", 25, "gets, and creates, by second and client")
	lasts := flags.Duration("for", 10*time.Second, "how long")
	patience := flags.Duration("patience", 20*time.Second, "how long a call is waited for, and its time if it fails")
	return func(to target) error {
		in := &space{target: to, total: 200, clients: *clients, conns: *clients}
		ctx, cancel, err := in.open(to)
		if err != nil {
			return err
		}
		defer cancel()
		store, _ := put(ctx, in)
		if _, err := inFlight(ctx, in.total, in.clients, func(ctx context.Context, worker, number int) error {
			return store(ctx, in.client(worker), number)
		}); err != nil {
			return err
		}
		read, _ := get(ctx, in)
		write, _ := create(ctx, &space{target: target{prefix: in.prefix + "new/", size: to.size}})
		say(map[string]bool{"ready": true})
		gets, creates := newTimed(*patience), newTimed(*patience)
		var steady sync.WaitGroup
		interval := time.Duration(float64(time.Second) / *rate / 2)
		began := time.Now()
		for client := range *clients {
			steady.Go(func() {
				var calls sync.WaitGroup
				for number := 0; ; number++ {
					due := began.Add(time.Duration(number)*interval + interval*time.Duration(client)/time.Duration(*clients))
					if due.Sub(began) >= *lasts {
						break
					}
					time.Sleep(time.Until(due))
					calls.Go(func() {
						if number%2 == 0 {
							gets.call(ctx, due, func(ctx context.Context) error {
								return read(ctx, in.client(client), number%in.total)
							})
							return
						}
						creates.call(ctx, due, func(ctx context.Context) error {
							return write(ctx, in.client(client), number**clients+client)
						})
					})
				}
				calls.Wait()
			})
		}
		steady.Wait()
		say(map[string]figures{"get": gets.figures(*lasts), "create": creates.figures(*lasts)})
		return nil
	}
}

// timed is how long calls took that were due at some moment.
type timed struct {
	patience time.Duration
	mutex    sync.Mutex
	took     []time.Duration
	failed   int
}

func newTimed(patience time.Duration) *timed { return &timed{patience: patience} }

// call counts one that fails as one that took all the time there was.
func (it *timed) call(ctx context.Context, due time.Time, send func(context.Context) error) {
	ctx, cancel := context.WithDeadline(ctx, due.Add(it.patience))
	defer cancel()
	err := send(ctx)
	took := time.Since(due)
	it.mutex.Lock()
	defer it.mutex.Unlock()
	if err != nil {
		it.failed++
		took = max(took, it.patience)
	}
	it.took = append(it.took, took)
}

func (it *timed) figures(elapsed time.Duration) figures {
	result := summed(slices.Clone(it.took), elapsed)
	result.Failed = it.failed
	return result
}
