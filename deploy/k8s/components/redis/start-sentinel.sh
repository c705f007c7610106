#!/bin/sh
# Starts a Sentinel. What it has learned is in its file, on a volume: it is written at the first start only.
set -eu
file=/data/sentinel.conf
if [ ! -e $file ]; then
  cat >$file.new <<CONF
port 26379
dir /data
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $POD_NAME.redis-sentinel.$POD_NAMESPACE.svc
sentinel monitor ledgerfeed redis-0.redis.$POD_NAMESPACE.svc 6379 2
sentinel down-after-milliseconds ledgerfeed 5000
sentinel failover-timeout ledgerfeed 30000
sentinel parallel-syncs ledgerfeed 1
CONF
  mv $file.new $file
fi
# The password may have changed since.
sed -i '/^sentinel auth-pass /d' $file
sed -i "/^sentinel monitor /a sentinel auth-pass ledgerfeed $(cat /run/secrets/redis/password)" $file
exec redis-server $file --sentinel
