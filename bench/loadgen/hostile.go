package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
)

// An action is something that a tenant may do, and that should cost its neighbours nothing.
type action struct {
	// about says what it is, as the table of the benchmark has it.
	about string
	// prepare stores what the action needs, if it needs anything. It may be cut short, and goes on from there as if it were
	// whole, since what takes too long to prepare can be worth a row as well.
	prepare func(context.Context, *tenant) error
	// act does it once.
	act func(context.Context, *tenant) error
}

// tenant is who does it.
type tenant struct {
	target
	pool     []*clientv3.Client
	scale    float64
	revision int64 // before what was prepared
	turn     int   // how often it has acted
	held     []*rawWatch
}

// many is a number of the table, at the scale that is asked for.
func (t *tenant) many(count int) int { return max(int(float64(count)*t.scale), 1) }

func (t *tenant) client(number int) *clientv3.Client { return t.pool[number%len(t.pool)] }

const hostileConnections = 4

// hostile does one thing again and again. It says when it is prepared, begins at a line on its input, and ends with its
// input.
func hostile(flags *flag.FlagSet) func(target) error {
	names := slices.Sorted(maps.Keys(actions))
	name := flags.String("action", "", "what it does, of "+strings.Join(names, ", "))
	scale := flags.Float64("scale", 1, "a share of what it usually does")
	preparing := flags.Duration("prepare", time.Minute, "how long it may prepare")
	list := flags.Bool("list", false, "print the actions there are")
	return func(to target) error {
		if *list {
			for _, name := range names {
				say(map[string]string{"action": name, "about": actions[name].about})
			}
			return nil
		}
		chosen, there := actions[*name]
		if !there {
			return fmt.Errorf("there is no action %q", *name)
		}
		pool, err := to.connect(hostileConnections)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), to.limit)
		defer cancel()
		who := &tenant{target: to, pool: pool, scale: *scale}
		whole, took, err := who.prepare(ctx, chosen, *preparing)
		if err != nil {
			return fmt.Errorf("preparing: %w", err)
		}
		say(map[string]any{"prepared": took.Seconds(), "whole": whole})
		input := bufio.NewScanner(os.Stdin)
		if !input.Scan() {
			return nil
		}
		go func() {
			for input.Scan() {
			}
			cancel()
		}()
		say(who.repeat(ctx, chosen))
		return nil
	}
}

func (t *tenant) prepare(ctx context.Context, chosen action, limit time.Duration) (whole bool, took time.Duration, err error) {
	began := time.Now()
	answer, err := t.client(0).Get(ctx, t.prefix)
	if err != nil {
		return false, 0, err
	}
	t.revision = answer.Header.Revision
	if chosen.prepare == nil {
		return true, 0, nil
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err = chosen.prepare(limited, t)
	if limited.Err() != nil {
		return false, time.Since(began), nil
	}
	return true, time.Since(began), err
}

// done is what came of an action.
type done struct {
	Times   int     `json:"times"`
	Refused int     `json:"refused"`
	Why     string  `json:"why,omitempty"` // of the first that was refused, or failed
	Median  float64 `json:"p50"`
}

func (t *tenant) repeat(ctx context.Context, chosen action) done {
	var result done
	var took []time.Duration
	for ctx.Err() == nil {
		began := time.Now()
		err := chosen.act(ctx, t)
		if ctx.Err() != nil {
			break
		}
		t.turn++
		if err != nil {
			result.Refused++
			if result.Why == "" {
				result.Why = err.Error()[:min(len(err.Error()), 300)]
			}
			time.Sleep(10 * time.Millisecond) // asking again at once would be another action than the one that is named
			continue
		}
		result.Times++
		took = append(took, time.Since(began))
	}
	result.Median = summed(took, 0).P50
	return result
}

// atOnce does something for 0 to count-1, all at the same time. What is refused does not keep the others from being done.
func atOnce(ctx context.Context, count int, do func(ctx context.Context, number int) error) error {
	var all errgroup.Group
	for number := range count {
		all.Go(func() error { return do(ctx, number) })
	}
	return all.Wait()
}

const (
	putsOfATransaction = 100
	smallValue         = 100
	megabyte           = 1 << 20
)

// fill puts keys below a part of the prefix, by transactions of which few are under way: what it takes is not what an
// action wants to show.
func (t *tenant) fill(ctx context.Context, part string, count, size int, options ...clientv3.OpOption) error {
	value := target{size: size}.value()
	of := max(min(putsOfATransaction, megabyte/size), 1)
	var some errgroup.Group
	some.SetLimit(2)
	for first := 0; first < count && ctx.Err() == nil; first += of {
		some.Go(func() error {
			var puts []clientv3.Op
			for number := first; number < min(first+of, count); number++ {
				puts = append(puts, clientv3.OpPut(t.key(part, number), value, options...))
			}
			_, err := t.client(first / of).Txn(ctx).Then(puts...).Commit()
			return err
		})
	}
	return errors.Join(some.Wait(), ctx.Err())
}

// key is one of those that fill puts.
func (t *tenant) key(part string, number int) string {
	return fmt.Sprintf("%s%s/%07d", t.prefix, part, number)
}
