package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// figures are what a workload has come to. Latencies are in milliseconds.
type figures struct {
	Count   int     `json:"count"`
	Failed  int     `json:"failed"`
	Objects int     `json:"objects,omitempty"` // of lists: all that were read
	Seconds float64 `json:"seconds"`
	P50     float64 `json:"p50"`
	P90     float64 `json:"p90"`
	P99     float64 `json:"p99"`
	Max     float64 `json:"max"`
}

func summed(took []time.Duration, elapsed time.Duration) figures {
	slices.Sort(took)
	at := func(share float64) float64 {
		if len(took) == 0 {
			return 0
		}
		return milliseconds(took[int(share*float64(len(took)-1))])
	}
	return figures{
		Count: len(took), Seconds: elapsed.Seconds(), P50: at(0.5), P90: at(0.9), P99: at(0.99), Max: at(1),
	}
}

// inFlight does work for 0 to count-1, with so many at once, and times each. It goes on until all are done, or the first
// has failed, whose error it returns.
func inFlight(ctx context.Context, count, atOnce int, work func(ctx context.Context, worker, number int) error) (figures, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var next atomic.Int64
	var workers sync.WaitGroup
	took := make([][]time.Duration, atOnce)
	began := time.Now()
	for worker := range atOnce {
		workers.Go(func() {
			for ctx.Err() == nil {
				number := int(next.Add(1)) - 1
				if number >= count {
					return
				}
				sent := time.Now()
				if err := work(ctx, worker, number); err != nil {
					stop(err)
					return
				}
				took[worker] = append(took[worker], time.Since(sent))
			}
		})
	}
	workers.Wait()
	result := summed(slices.Concat(took...), time.Since(began))
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return result, err
	}
	return result, ctx.Err()
}
