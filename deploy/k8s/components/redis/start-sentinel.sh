#!/bin/sh
# Starts a Sentinel. What it has learned is in its file, on a volume; the rest of the file is made again at each start.
set -eu
. /run/secrets/redis_replication
file=/data/sentinel.conf
[ -e $file ] || : >$file
umask 077
{
  cat <<CONF
dir /data
port 0
tls-port 26379
tls-replication yes
tls-cert-file /run/secrets/redis.crt
tls-key-file /run/secrets/redis.key
tls-ca-cert-file /run/secrets/ca.crt
tls-auth-clients no
aclfile /run/secrets/redis_sentinel_users
sentinel sentinel-user peer
sentinel sentinel-pass $PEER_PASSWORD
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $POD_NAME.redis-sentinel.$POD_NAMESPACE.svc
CONF
  grep '^sentinel monitor ledgerfeed ' $file || echo "sentinel monitor ledgerfeed redis-0.redis.$POD_NAMESPACE.svc 6379 2"
  cat <<CONF
sentinel auth-user ledgerfeed sentinel
sentinel auth-pass ledgerfeed $SENTINEL_PASSWORD
sentinel down-after-milliseconds ledgerfeed 5000
sentinel failover-timeout ledgerfeed 30000
sentinel parallel-syncs ledgerfeed 1
CONF
  grep -E '^sentinel (myid|config-epoch|leader-epoch|current-epoch|known-replica|known-sentinel) ' $file || true
} >$file.new
mv $file.new $file
exec redis-server $file --sentinel
