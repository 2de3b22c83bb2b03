#!/bin/sh
# Start a server as the sentinels want it. At the very first start none of them answers, and the first of NODES is the
# master. Sentinels stand beside the servers (SENTINEL_PORT), or have names of their own (SENTINELS).
set -eu
password=$(cat "$SECRET")
master=""
newest=-1
tries=1
[ ! -e "$DATA/appendonlydir" ] || tries=15  # it ran before: the sentinels know more than the order of names

ask() { # the sentinel $1 who leads; of several answers that of the latest failover counts, one may have slept through it
  told=$(REDISCLI_AUTH="$password" timeout 2 redis-cli -h "$1" -p "$SENTINEL_PORT" --raw sentinel master mymaster \
    2>/dev/null || true)
  epoch=$(printf '%s\n' "$told" | sed -n '/^config-epoch$/{n;p;}')
  [ -n "$epoch" ] || return 0
  answers=$((answers + 1))
  [ "$epoch" -gt "$newest" ] || return 0
  newest=$epoch
  master=$(printf '%s\n' "$told" | sed -n '/^ip$/{n;p;}')
}

while :; do
  answers=0
  for sentinel in ${SENTINELS:-$NODES}; do ask "$sentinel"; done
  tries=$((tries - 1))
  if [ "$answers" -ge 2 ] || [ "$tries" -eq 0 ]; then break; fi
  sleep 2
done
[ -n "$master" ] || master=${NODES%% *}
# A master without a replica takes no writes: what it took would be lost with the failover.
# Sentinels let servers rewrite their file: a copy, so that nothing of it outlives this process.
cat "$CONFIG" > "$DATA/redis.conf"
set -- "$DATA/redis.conf" --dir "$DATA" --port "$PORT" --requirepass "$password" --masterauth "$password" \
  --replica-announce-ip "$ME" --min-replicas-to-write 1 --min-replicas-max-lag 10 "$@"
[ "$master" = "$ME" ] || set -- "$@" --replicaof "$master" "$PORT"
exec redis-server "$@"
