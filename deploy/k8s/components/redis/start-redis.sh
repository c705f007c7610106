#!/bin/sh
# Starts a Redis as what the Sentinels say it is: the master, or the replica of the other one.
set -eu
SELF=$POD_NAME.redis.$POD_NAMESPACE.svc
master=
for sentinel in 0 1 2; do
  master=$(redis-cli -h redis-sentinel-$sentinel.redis-sentinel -p 26379 -t 3 SENTINEL GET-MASTER-ADDR-BY-NAME ledgerfeed 2>/dev/null | head -n 1) || true
  case $master in redis-*) break ;; *) master= ;; esac
done
# Nobody knows: the very first start.
[ -n "$master" ] || master=redis-0.redis.$POD_NAMESPACE.svc
password=$(cat /run/secrets/redis/password)
sed "s/\${SELF}/$SELF/" /etc/redis/redis.conf >/run/redis/redis.conf
{
  echo "requirepass $password"
  echo "masterauth $password"
  [ "$master" = "$SELF" ] || echo "replicaof $master 6379"
} >>/run/redis/redis.conf
exec redis-server /run/redis/redis.conf
