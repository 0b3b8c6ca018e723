package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
)

const heldFor = 2 * time.Second

// rawWatch is a call of Watch without what etcd's client keeps of each watch.
type rawWatch struct {
	stream  pb.Watch_WatchClient
	cancel  context.CancelFunc
	watches int
}

func openWatch(ctx context.Context, client *clientv3.Client) (*rawWatch, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := pb.NewWatchClient(client.ActiveConnection()).Watch(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	return &rawWatch{stream: stream, cancel: cancel}, nil
}

// watch asks for a watch, which ask waits for.
func (w *rawWatch) watch(from, to string, revision int64) error {
	w.watches++
	create := &pb.WatchCreateRequest{Key: []byte(from), RangeEnd: []byte(to), StartRevision: revision}
	return w.stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
}

// until reads answers until count of them are as wanted.
func (w *rawWatch) until(count int, wanted func(*pb.WatchResponse) bool) error {
	for count > 0 {
		answer, err := w.stream.Recv()
		if err != nil {
			return err
		}
		if answer.Canceled {
			return fmt.Errorf("a watch was cancelled: %s", answer.CancelReason)
		}
		if wanted(answer) {
			count--
		}
	}
	return nil
}

func isCreated(answer *pb.WatchResponse) bool { return answer.Created }

func hasEvents(answer *pb.WatchResponse) bool { return len(answer.Events) > 0 }

// pastWatches is over when each of the watches has come from the past to what is written behind it.
func pastWatches(ctx context.Context, t *tenant) error {
	watch, err := openWatch(ctx, t.client(0))
	if err != nil {
		return err
	}
	defer watch.cancel()
	key, count := t.prefix+"wanted", t.many(200)
	for range count {
		if err := watch.watch(key, "", t.revision+1); err != nil {
			return err
		}
	}
	if err := watch.until(count, isCreated); err != nil {
		return err
	}
	answer, err := t.client(1).Put(ctx, key, "")
	if err != nil {
		return err
	}
	last := answer.Header.Revision
	return watch.until(count, func(answer *pb.WatchResponse) bool {
		return hasEvents(answer) && answer.Events[len(answer.Events)-1].Kv.ModRevision >= last
	})
}

// openManyWatches holds watches of ranges of which no two are the same, on a few streams.
func openManyWatches(ctx context.Context, t *tenant) error {
	const streams, step = 8, 500
	each := max(t.many(hundredThousand)/streams, 1)
	for stream := range streams {
		watch, err := openWatch(context.WithoutCancel(ctx), t.client(stream))
		if err != nil {
			return err
		}
		t.held = append(t.held, watch)
		for first := 0; first < each && ctx.Err() == nil; first += step {
			count := min(step, each-first)
			for number := stream*each + first; number < stream*each+first+count; number++ {
				if err := watch.watch(t.key("watched", number), t.key("watched", number+100), 0); err != nil {
					return err
				}
			}
			if err := watch.until(count, isCreated); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

func putBelowWatches(ctx context.Context, t *tenant) error {
	if t.turn == 0 {
		for _, watch := range t.held { // what arrives is read, and left
			go func() {
				for {
					if _, err := watch.stream.Recv(); err != nil {
						return
					}
				}
			}()
		}
	}
	step := max(t.many(hundredThousand)/256, 1)
	return atOnce(ctx, 256, func(ctx context.Context, number int) error {
		_, err := t.client(number).Put(ctx, t.key("watched", number*step), "")
		return err
	})
}

const manyLeases = 2000

func grantLeases(ctx context.Context, t *tenant) error {
	_, err := inFlight(ctx, t.many(manyLeases), 16, func(ctx context.Context, worker, number int) error {
		_, err := pb.NewLeaseClient(t.client(worker).ActiveConnection()).
			LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: int64(number + 1), TTL: 600})
		return err
	})
	return err
}

// keepalives renews all leases on one stream, without waiting for one before it asks for the next.
func keepalives(ctx context.Context, t *tenant) error {
	count := t.many(manyLeases)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := pb.NewLeaseClient(t.client(0).ActiveConnection()).LeaseKeepAlive(ctx)
	if err != nil {
		return err
	}
	go func() {
		for number := range count {
			if stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(number + 1)}) != nil {
				return
			}
		}
	}()
	for range count {
		if _, err := stream.Recv(); err != nil {
			return err
		}
	}
	return nil
}

// begin sends a request, and leaves the answer where it is.
func begin(ctx context.Context, client *clientv3.Client, method string, request any) error {
	stream, err := client.ActiveConnection().NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(request); err != nil {
		return err
	}
	return stream.CloseSend()
}

func resets(ctx context.Context, t *tenant) error {
	return atOnce(ctx, t.many(3000), func(ctx context.Context, number int) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		return begin(ctx, t.client(number), pb.KV_Range_FullMethodName, &pb.RangeRequest{Key: []byte(t.prefix)})
	})
}

func unreadAnswers(ctx context.Context, t *tenant) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	key := t.prefix + "large/"
	read := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{
		Key: []byte(key), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(key)),
	}}}
	err := atOnce(ctx, t.many(40), func(ctx context.Context, number int) error {
		return begin(ctx, t.client(number), pb.KV_Txn_FullMethodName, &pb.TxnRequest{Success: []*pb.RequestOp{read, read}})
	})
	hold(ctx)
	return err
}

func hold(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(heldFor):
	}
}

func unreadWatches(ctx context.Context, t *tenant) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err := atOnce(ctx, t.many(400), func(ctx context.Context, number int) error {
		watch, err := openWatch(ctx, t.client(number))
		if err != nil {
			return err
		}
		if err := watch.watch(t.prefix+"seen/", t.prefix+"seen0", 0); err != nil {
			return err
		}
		return watch.until(1, isCreated)
	})
	if err != nil {
		return err
	}
	if err := t.fill(ctx, "seen", 6, megabyte-700); err != nil {
		return err
	}
	hold(ctx)
	return nil
}

// wideWatches reads all that the watches send.
func wideWatches(ctx context.Context, t *tenant) error {
	watch, err := openWatch(ctx, t.client(0))
	if err != nil {
		return err
	}
	defer watch.cancel()
	count := t.many(400)
	for number := range count {
		if err := watch.watch(t.key("wide", number), t.prefix+"wide0", 0); err != nil {
			return err
		}
	}
	if err := watch.until(count, isCreated); err != nil {
		return err
	}
	value := target{size: 10_000}.value()
	puts := make([]clientv3.Op, 100)
	for i := range puts {
		puts[i] = clientv3.OpPut(t.key("wide", count+i), value)
	}
	if _, err := t.client(1).Txn(ctx).Then(puts...).Commit(); err != nil {
		return err
	}
	return watch.until(count, hasEvents)
}

// unfinished sends the beginnings of requests on a connection of its own, spoken to as HTTP/2: no gRPC library would.
func unfinished(ctx context.Context, t *tenant) error {
	encryption, err := t.encryption()
	if err != nil {
		return err
	}
	if encryption == nil {
		return fmt.Errorf("this wants TLS")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	transport := &http2.Transport{TLSClientConfig: encryption, StrictMaxConcurrentStreams: true}
	defer transport.CloseIdleConnections()
	const size = 2_000_000
	message := make([]byte, 5+size-1) // one byte is missing
	binary.BigEndian.PutUint32(message[1:], size)
	for range t.many(400) {
		body := io.MultiReader(bytes.NewReader(message), never{ctx})
		url := "https://" + t.address + pb.KV_Put_FullMethodName
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
		if err != nil {
			return err
		}
		request.Header.Set("Content-Type", "application/grpc")
		request.Header.Set("TE", "trailers")
		go func() {
			if answer, err := transport.RoundTrip(request); err == nil {
				_ = answer.Body.Close()
			}
		}()
	}
	hold(ctx)
	return nil
}

// never has nothing to read until its context ends.
type never struct{ ctx context.Context }

func (n never) Read([]byte) (int, error) {
	<-n.ctx.Done()
	return 0, n.ctx.Err()
}
