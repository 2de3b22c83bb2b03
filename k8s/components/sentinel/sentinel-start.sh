#!/bin/sh
# A sentinel rewrites its file and keeps its id and what it learned in it: each has its own, on its own disk. Host names
# need resolve-hostnames. The password is written anew at each start: it may have changed.
set -eu
umask 077
password=$(sed 's/[\\"]/\\&/g' "$SECRET")
config=$DATA/sentinel.conf
if [ -f "$config" ]; then
  grep -Ev '^(requirepass|user default|sentinel (sentinel-pass|auth-pass)) ' "$config" > "$config.new"
else
  cat > "$config.new" <<END
port $SENTINEL_PORT
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $ME
sentinel monitor mymaster ${NODES%% *} $PORT 2
sentinel down-after-milliseconds mymaster 5000
sentinel parallel-syncs mymaster 1
sentinel failover-timeout mymaster 10000
END
fi
cat >> "$config.new" <<END
requirepass "$password"
sentinel sentinel-pass "$password"
sentinel auth-pass mymaster "$password"
END
mv "$config.new" "$config"
exec redis-server "$config" --sentinel "$@"
