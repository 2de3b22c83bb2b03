#!/bin/sh
# One node. It keeps what it knows of the others in nodes.conf, on its own disk.
set -eu
password=$(cat "$SECRET")
exec redis-server "$CONFIG" --dir "$DATA" --port "$PORT" --requirepass "$password" --masterauth "$password" \
  --cluster-enabled yes --cluster-config-file nodes.conf --cluster-node-timeout 5000 "$@"
