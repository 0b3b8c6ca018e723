package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// actions are everything that the table has a row for.
var actions = map[string]action{
	"nothing": {about: "nothing", act: wait},

	"delete-range": {"deletes 20,000 keys by one DeleteRange, fills them in again", fillMany, deleteRange},
	"lease-revoke": {"revokes a lease with 20,000 keys, fills them in again", nil, leaseRevoke},
	"lease-expiry": {"lets a lease with 20,000 keys run out, fills them in again", nil, leaseExpiry},
	"puts":         {"300 txns of 128 puts at once", nil, manyPuts},
	"compares":     {"200 txns of 64 compares and 64 puts at once", nil, manyCompares},
	"nested":       {"one txn of nested txns, 39,304 puts", nil, nested},
	"range-compares": {"txns of 16 compares, each of a range of 100,000 keys", fillHundredThousand,
		rangeCompares},
	"old-revisions": {"count, list and get at a revision that 100,000 versions have followed", fillVersions, oldRevisions},
	"sorts":         {"sort by value, and keys_only, over 100,000 keys", fillHundredThousand, sorts},
	"long-keys":     {"puts of a key of 600 bytes, of 4,500 with one prefix of 511", fillLongKeys(4500, 1), longKeys(4500, 1)},
	"long-keys-1MB": {"puts of such a key of 200, with values of 1 MB", fillLongKeys(200, megabyte-700),
		longKeys(200, megabyte-700)},

	"past-watches": {"200 watches from the past over 100,000 events that none of them wants", fillHundredThousand, pastWatches},
	"many-watches": {"256 puts below 100,000 watches of different ranges", openManyWatches, putBelowWatches},
	"keepalives":   {"keepalives of 2,000 leases on one stream", grantLeases, keepalives},

	"lists":    {"2,000 lists of 100 keys at once", func(ctx context.Context, t *tenant) error { return t.fill(ctx, "few", 100, smallValue) }, manyLists},
	"requests": {"3,000 puts in flight", nil, manyRequests},
	"resets":   {"3,000 reads begun and cancelled at once", nil, resets},

	"large-answers":  {"one txn of 60 ranges of 10 MB each", fillTenMegabytes, largeAnswer},
	"unread-answers": {"40 answers of 20 MB, not read for two seconds", fillTenMegabytes, unreadAnswers},
	"unfinished":     {"400 requests of 2 MB on one connection, not ended for two seconds", nil, unfinished},
	"unread-watches": {"400 watch streams that are not read, and 6 MB of puts", nil, unreadWatches},
	"wide-watches":   {"400 watches of different ranges, and a txn of 1 MB", nil, wideWatches},
}

func wait(ctx context.Context, _ *tenant) error {
	select {
	case <-ctx.Done():
	case <-time.After(time.Second):
	}
	return nil
}

const (
	manyKeys        = 20_000
	hundredThousand = 100_000
)

func fillMany(ctx context.Context, t *tenant) error {
	return t.fill(ctx, "many", t.many(manyKeys), smallValue)
}

func fillHundredThousand(ctx context.Context, t *tenant) error {
	return t.fill(ctx, "more", t.many(hundredThousand), smallValue)
}

func deleteRange(ctx context.Context, t *tenant) error {
	if t.turn > 0 {
		if err := fillMany(ctx, t); err != nil {
			return err
		}
	}
	_, err := t.client(0).Delete(ctx, t.prefix+"many/", clientv3.WithPrefix())
	return err
}

func leaseRevoke(ctx context.Context, t *tenant) error {
	lease, err := t.client(0).Grant(ctx, 3600)
	if err != nil {
		return err
	}
	if err := t.fill(ctx, "many", t.many(manyKeys), smallValue, clientv3.WithLease(lease.ID)); err != nil {
		return err
	}
	_, err = t.client(0).Revoke(ctx, lease.ID)
	return err
}

// leaseExpiry keeps the lease alive until all its keys are there, and then looks until they are not.
func leaseExpiry(ctx context.Context, t *tenant) error {
	lease, err := t.client(0).Grant(ctx, 2)
	if err != nil {
		return err
	}
	filling, filled := context.WithCancel(ctx)
	defer filled()
	answers, err := t.client(0).KeepAlive(filling, lease.ID)
	if err != nil {
		return err
	}
	go func() {
		for range answers {
		}
	}()
	if err := t.fill(ctx, "many", t.many(manyKeys), smallValue, clientv3.WithLease(lease.ID)); err != nil {
		return err
	}
	filled()
	for {
		left, err := t.client(0).Get(ctx, t.prefix+"many/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil || left.Count == 0 {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func manyPuts(ctx context.Context, t *tenant) error {
	value := target{size: smallValue}.value()
	return atOnce(ctx, t.many(300), func(ctx context.Context, number int) error {
		puts := make([]clientv3.Op, 128)
		for i := range puts {
			puts[i] = clientv3.OpPut(t.key("puts", number*len(puts)+i), value)
		}
		_, err := t.client(number).Txn(ctx).Then(puts...).Commit()
		return err
	})
}

func manyCompares(ctx context.Context, t *tenant) error {
	value := target{size: smallValue}.value()
	return atOnce(ctx, t.many(200), func(ctx context.Context, number int) error {
		compares, puts := make([]clientv3.Cmp, 64), make([]clientv3.Op, 64)
		for i := range puts {
			key := t.key("compares", number*len(puts)+i)
			compares[i] = clientv3.Compare(clientv3.ModRevision(key), ">", -1)
			puts[i] = clientv3.OpPut(key, value)
		}
		_, err := t.client(number).Txn(ctx).If(compares...).Then(puts...).Commit()
		return err
	})
}

// nested is three levels of 34: the last are puts of keys that are as short as can be.
func nested(ctx context.Context, t *tenant) error {
	width := min(t.many(34), 34)
	var level func(depth, number int) clientv3.Op
	level = func(depth, number int) clientv3.Op {
		if depth == 0 {
			return clientv3.OpPut(fmt.Sprintf("%04x", number), "")
		}
		operations := make([]clientv3.Op, width)
		for i := range operations {
			operations[i] = level(depth-1, number*width+i)
		}
		return clientv3.OpTxn(nil, operations, nil)
	}
	_, err := t.client(0).Do(ctx, level(3, 0))
	return err
}

func rangeCompares(ctx context.Context, t *tenant) error {
	compares := make([]clientv3.Cmp, 16)
	for i := range compares {
		compares[i] = clientv3.Compare(clientv3.ModRevision(t.prefix+"more/"), ">", -1).WithPrefix()
	}
	_, err := t.client(0).Txn(ctx).If(compares...).Then(clientv3.OpGet(t.prefix)).Commit()
	return err
}

const versionedKeys = 100

// fillVersions writes a hundred keys, and then as many versions of them as make a hundred thousand.
func fillVersions(ctx context.Context, t *tenant) error {
	if err := t.fill(ctx, "versions", versionedKeys, smallValue); err != nil {
		return err
	}
	answer, err := t.client(0).Get(ctx, t.prefix)
	if err != nil {
		return err
	}
	t.revision = answer.Header.Revision
	for range t.many(hundredThousand) / versionedKeys {
		if err := t.fill(ctx, "versions", versionedKeys, smallValue); err != nil {
			return err
		}
	}
	return nil
}

func oldRevisions(ctx context.Context, t *tenant) error {
	then, all := clientv3.WithRev(t.revision), t.prefix+"versions/"
	reads := []clientv3.Op{
		clientv3.OpGet(all, clientv3.WithPrefix(), then, clientv3.WithCountOnly()),
		clientv3.OpGet(all, clientv3.WithPrefix(), then, clientv3.WithLimit(10)),
		clientv3.OpGet(t.key("versions", 0), then),
	}
	return atOnce(ctx, len(reads), func(ctx context.Context, number int) error {
		_, err := t.client(number).Do(ctx, reads[number])
		return err
	})
}

func sorts(ctx context.Context, t *tenant) error {
	all := t.prefix + "more/"
	byValue := clientv3.WithSort(clientv3.SortByValue, clientv3.SortDescend)
	if _, err := t.client(0).Get(ctx, all, clientv3.WithPrefix(), byValue, clientv3.WithLimit(1)); err != nil {
		return err
	}
	_, err := t.client(1).Get(ctx, all, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	return err
}

// longKey is longer than what LMDB takes for a key, and differs from the others only behind that.
func (t *tenant) longKey(number int) string {
	return t.prefix + "long/" + strings.Repeat("x", 580-len(t.prefix)) + fmt.Sprintf("%05d", number)
}

func fillLongKeys(count, size int) func(context.Context, *tenant) error {
	return func(ctx context.Context, t *tenant) error {
		value := target{size: size}.value()
		for number := range t.many(count) {
			if _, err := t.client(0).Put(ctx, t.longKey(number), value); err != nil {
				return err
			}
		}
		return nil
	}
}

func longKeys(count, size int) func(context.Context, *tenant) error {
	return func(ctx context.Context, t *tenant) error {
		_, err := t.client(0).Put(ctx, t.longKey(t.turn%t.many(count)), target{size: size}.value())
		return err
	}
}

func manyLists(ctx context.Context, t *tenant) error {
	return atOnce(ctx, t.many(2000), func(ctx context.Context, number int) error {
		_, err := t.client(number).Get(ctx, t.prefix+"few/", clientv3.WithPrefix())
		return err
	})
}

func manyRequests(ctx context.Context, t *tenant) error {
	value := target{size: smallValue}.value()
	return atOnce(ctx, t.many(3000), func(ctx context.Context, number int) error {
		_, err := t.client(number).Put(ctx, t.key("requests", number), value)
		return err
	})
}

func fillTenMegabytes(ctx context.Context, t *tenant) error {
	return t.fill(ctx, "large", t.many(10), megabyte-700)
}

func largeAnswer(ctx context.Context, t *tenant) error {
	reads := make([]clientv3.Op, 60)
	for i := range reads {
		reads[i] = clientv3.OpGet(t.prefix+"large/", clientv3.WithPrefix())
	}
	_, err := t.client(0).Txn(ctx).Then(reads...).Commit()
	return err
}
