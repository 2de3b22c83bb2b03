#!/bin/sh
# A sentinel rewrites its file and keeps its id and what it learned in it: each has its own, on its own disk. Host names
# need resolve-hostnames.
set -eu
password=$(cat "$SECRET")
config=$DATA/sentinel.conf
if [ ! -f "$config" ]; then
  cat > "$config.new" <<END
port $SENTINEL_PORT
requirepass $password
sentinel sentinel-pass $password
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $ME
sentinel monitor mymaster ${NODES%% *} $PORT 2
sentinel auth-pass mymaster $password
sentinel down-after-milliseconds mymaster 5000
sentinel parallel-syncs mymaster 1
sentinel failover-timeout mymaster 10000
END
  mv "$config.new" "$config"
fi
exec redis-server "$config" --sentinel "$@"
