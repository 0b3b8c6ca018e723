package main

import (
	"context"
	"flag"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// space is the part of the keys that a workload uses, with the connections that its requests are spread over.
type space struct {
	target
	total, clients, conns int
	pool                  []*clientv3.Client
}

func spaceFlags(flags *flag.FlagSet) *space {
	in := &space{}
	flags.IntVar(&in.total, "total", 5000, "objects there are, or shall be")
	flags.IntVar(&in.clients, "clients", 64, "requests in flight")
	flags.IntVar(&in.conns, "conns", 4, "connections that they share")
	return in
}

// open connects, and returns a context that ends when the workload may take no longer.
func (in *space) open(to target) (context.Context, context.CancelFunc, error) {
	pool, err := to.connect(in.conns)
	if err != nil {
		return nil, nil, err
	}
	in.target, in.pool = to, pool
	ctx, cancel := context.WithTimeout(context.Background(), to.limit)
	return ctx, cancel, nil
}

// object is the key of an object, as those of a resource with fifty namespaces.
func (in *space) object(number int) string {
	return fmt.Sprintf("%snamespace-%02d/object-%07d", in.prefix, number%50, number)
}

func (in *space) client(worker int) *clientv3.Client { return in.pool[worker%len(in.pool)] }

// request does something with the object of a number, through the client.
type request func(ctx context.Context, client *clientv3.Client, number int) error

// single is a workload of one request for each object; prepare makes the request, before anything is timed.
func single(prepare func(context.Context, *space) (request, error)) command {
	return func(flags *flag.FlagSet) func(target) error {
		in := spaceFlags(flags)
		return func(to target) error {
			ctx, cancel, err := in.open(to)
			if err != nil {
				return err
			}
			defer cancel()
			send, err := prepare(ctx, in)
			if err != nil {
				return err
			}
			result, err := inFlight(ctx, in.total, in.clients, func(ctx context.Context, worker, number int) error {
				return send(ctx, in.client(worker), number)
			})
			if err == nil {
				say(result)
			}
			return err
		}
	}
}

// changed is the transaction with which an API server changes an object: only if it is as it was read, and with its
// current state in the answer if it is not.
func changed(ctx context.Context, client *clientv3.Client, key string, revision int64, change clientv3.Op) error {
	answer, err := client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
		Then(change).
		Else(clientv3.OpGet(key)).
		Commit()
	if err == nil && !answer.Succeeded {
		err = fmt.Errorf("%s is not at revision %d", key, revision)
	}
	return err
}

func create(_ context.Context, in *space) (request, error) {
	value := in.value()
	return func(ctx context.Context, client *clientv3.Client, number int) error {
		key := in.object(number)
		return changed(ctx, client, key, 0, clientv3.OpPut(key, value))
	}, nil
}

func get(_ context.Context, in *space) (request, error) {
	return func(ctx context.Context, client *clientv3.Client, number int) error {
		answer, err := client.Get(ctx, in.object(number))
		if err == nil && len(answer.Kvs) == 0 {
			err = fmt.Errorf("there is no %s", in.object(number))
		}
		return err
	}, nil
}

// update knows the revisions of all objects beforehand: reading them is another workload.
func update(ctx context.Context, in *space) (request, error) {
	answer, err := in.pool[0].Get(ctx, in.prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return nil, err
	}
	revisions := make(map[string]int64, len(answer.Kvs))
	for _, kv := range answer.Kvs {
		revisions[string(kv.Key)] = kv.ModRevision
	}
	value := in.value()
	return func(ctx context.Context, client *clientv3.Client, number int) error {
		key := in.object(number)
		return changed(ctx, client, key, revisions[key], clientv3.OpPut(key, value))
	}, nil
}

// remove reads what it deletes, as an API server does.
func remove(_ context.Context, in *space) (request, error) {
	return func(ctx context.Context, client *clientv3.Client, number int) error {
		key := in.object(number)
		found, err := client.Get(ctx, key)
		if err != nil {
			return err
		}
		if len(found.Kvs) == 0 {
			return fmt.Errorf("there is no %s", key)
		}
		return changed(ctx, client, key, found.Kvs[0].ModRevision, clientv3.OpDelete(key))
	}, nil
}

func put(_ context.Context, in *space) (request, error) {
	value := in.value()
	return func(ctx context.Context, client *clientv3.Client, number int) error {
		_, err := client.Put(ctx, in.object(number), value)
		return err
	}, nil
}
