#!/bin/sh
# A k3s server whose etcd is fetch, spoken to as any etcd is: the certificate names the tenant.
#   fetch certs gamma     # makes certs/gamma.crt and certs/gamma.key, beside certs/ca.crt
exec k3s server \
  --datastore-endpoint https://fetch.example.com:2379 \
  --datastore-cafile /etc/rancher/k3s/fetch/ca.crt \
  --datastore-certfile /etc/rancher/k3s/fetch/gamma.crt \
  --datastore-keyfile /etc/rancher/k3s/fetch/gamma.key
