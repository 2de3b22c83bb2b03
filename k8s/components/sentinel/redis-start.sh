#!/bin/sh
# Start this pod's server as the sentinels want it. At the very first start none of them answers, and the
# first of NODES is the master.
set -eu
password=$(cat "$SECRET")
first=${NODES%% *}
master=""
tries=1
[ ! -e "$DATA/appendonlydir" ] || tries=15  # it ran before: the sentinels know more than the order of names
while [ -z "$master" ] && [ "$tries" -gt 0 ]; do
  for node in $NODES; do
    master=$(REDISCLI_AUTH="$password" timeout 2 redis-cli -h "$node" -p "$SENTINEL_PORT" --raw \
      sentinel get-master-addr-by-name mymaster 2>/dev/null | head -n 1 || true)
    [ -z "$master" ] || break
  done
  tries=$((tries - 1))
  [ -n "$master" ] || [ "$tries" -eq 0 ] || sleep 2
done
[ -n "$master" ] || master=$first
# A master without a replica takes no writes: what it took would be lost with the failover.
# Sentinels let servers rewrite their file: a copy, so that nothing of it outlives this process.
cat "$CONFIG" > "$DATA/redis.conf"
set -- "$DATA/redis.conf" --dir "$DATA" --port "$PORT" --requirepass "$password" --masterauth "$password" \
  --replica-announce-ip "$ME" --min-replicas-to-write 1 --min-replicas-max-lag 10 "$@"
[ "$master" = "$ME" ] || set -- "$@" --replicaof "$master" "$PORT"
exec redis-server "$@"
