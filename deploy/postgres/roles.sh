#!/bin/sh
# Makes the role that migrates and the role that writes, and has the first own what is there. It runs when the database is
# made; for one of an earlier version run it again: docker compose exec postgres sh /docker-entrypoint-initdb.d/roles.sh
set -eu
exec psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username=postgres --dbname="${POSTGRES_DB:-books}" \
  --set=setup="$(cat /run/secrets/postgres_setup_password)" --set=writer="$(cat /run/secrets/postgres_writer_password)" \
  --file="$(dirname "$0")/roles.psql"
