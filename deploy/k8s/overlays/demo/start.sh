#!/bin/sh
# Starts PostgreSQL by TLS. It takes its key only from a file that nobody else can read.
set -eu
rm -f /run/tls/server.key
(umask 077 && cat /run/secrets/postgres.key >/run/tls/server.key)
exec docker-entrypoint.sh postgres \
  -c ssl=on -c ssl_cert_file=/run/secrets/postgres.crt -c ssl_key_file=/run/tls/server.key \
  -c hba_file=/etc/postgresql/pg_hba.conf
