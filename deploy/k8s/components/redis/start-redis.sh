#!/bin/sh
# Starts a Redis as what the Sentinels say it is: the master, or the replica of the other one.
set -eu
. /run/secrets/redis_replication
SELF=$POD_NAME.redis.$POD_NAMESPACE.svc
master=
for sentinel in 0 1 2; do
  master=$(REDISCLI_AUTH=$PEER_PASSWORD redis-cli --tls --cacert /run/secrets/ca.crt --user peer -h redis-sentinel-$sentinel.redis-sentinel -p 26379 -t 3 \
    SENTINEL GET-MASTER-ADDR-BY-NAME ledgerfeed 2>/dev/null | head -n 1) || true
  case $master in redis-*) break ;; *) master= ;; esac
done
# Nobody knows: the very first start.
[ -n "$master" ] || master=redis-0.redis.$POD_NAMESPACE.svc
umask 077
sed "s/\${SELF}/$SELF/" /etc/redis/redis.conf >/run/redis/redis.conf
{
  echo "masterauth $REPLICA_PASSWORD"
  [ "$master" = "$SELF" ] || echo "replicaof $master 6379"
} >>/run/redis/redis.conf
exec redis-server /run/redis/redis.conf
