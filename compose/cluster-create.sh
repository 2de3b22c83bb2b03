#!/bin/sh
# Join NODES to one cluster, once; the first ones become masters, with REPLICAS replicas each. Running it again does no harm.
set -eu
REDISCLI_AUTH=$(cat "$SECRET")
export REDISCLI_AUTH

told() { # what the node $1 says of $2
  redis-cli -h "$1" -p "$PORT" cluster info | tr -d '\r' | sed -n "s/^$2://p"
}

first=${NODES%% *}
set --
for node in $NODES; do set -- "$@" "$node:$PORT"; done
if [ "$(told "$first" cluster_known_nodes)" -gt 1 ]; then
  echo "The nodes have joined before."
else
  redis-cli --cluster create "$@" --cluster-replicas "$REPLICAS" --cluster-yes
fi

tries=60
for node in $NODES; do
  until [ "$(told "$node" cluster_state)" = ok ] && [ "$(told "$node" cluster_known_nodes)" -eq $# ]; do
    tries=$((tries - 1))
    if [ "$tries" -eq 0 ]; then
      echo "$node does not see a whole cluster of $# nodes; look with: redis-cli --cluster check $1" >&2
      exit 1
    fi
    sleep 1
  done
done
echo "A cluster of $# nodes."
