package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"math"
	"math/rand"
	"os"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// target is the endpoint, or several of one store, who calls it, and the keys that are used there.
type target struct {
	address, authority, certificate, key, prefix string
	size                                         int
	limit                                        time.Duration
}

func targetFlags(flags *flag.FlagSet) *target {
	to := &target{}
	flags.StringVar(&to.address, "endpoint", "127.0.0.1:2379", "HOST:PORT; several, with commas, have a connection each in turn")
	flags.StringVar(&to.authority, "ca", "", "the authority's certificate; without it nothing is encrypted")
	flags.StringVar(&to.certificate, "cert", "", "the client's certificate")
	flags.StringVar(&to.key, "key", "", "the client's key")
	flags.StringVar(&to.prefix, "prefix", "/registry/bench/", "what all keys begin with")
	flags.IntVar(&to.size, "size", 1024, "bytes of a value")
	flags.DurationVar(&to.limit, "limit", 15*time.Minute, "how long it may take")
	return to
}

// encryption is nil for a target that is spoken to in the clear.
func (to target) encryption() (*tls.Config, error) {
	if to.authority == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(to.authority)
	if err != nil {
		return nil, err
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in " + to.authority)
	}
	own, err := tls.LoadX509KeyPair(to.certificate, to.key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{RootCAs: trusted, Certificates: []tls.Certificate{own}}, nil
}

// connect opens a connection for each of the clients that it returns.
func (to target) connect(count int) ([]*clientv3.Client, error) {
	encryption, err := to.encryption()
	if err != nil {
		return nil, err
	}
	addresses := strings.Split(to.address, ",")
	clients := make([]*clientv3.Client, count)
	for i := range clients {
		clients[i], err = clientv3.New(clientv3.Config{
			Endpoints:          []string{addresses[i%len(addresses)]},
			TLS:                encryption.Clone(),
			DialTimeout:        time.Minute,
			MaxCallRecvMsgSize: math.MaxInt32,
			MaxCallSendMsgSize: math.MaxInt32,
			Logger:             zap.NewNop(),
		})
		if err != nil {
			return nil, err
		}
	}
	return clients, nil
}

// value is one that does not compress, of which there is one for all keys: it is the endpoint that is measured.
func (to target) value() string {
	bytes := make([]byte, to.size)
	for i := range bytes {
		bytes[i] = byte(rand.Intn(256))
	}
	return string(bytes)
}
