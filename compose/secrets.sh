#!/bin/sh
# Make the secrets that the compose files mount, each in a file of its own. What is there already stays.
set -eu
cd "$(dirname "$0")/.."
made() { # file, value
  if [ -e "$1" ]; then
    echo "kept   $1"
  else
    (umask 022 && printf '%s\n' "$2" > "$1.new" && mv "$1.new" "$1")
    echo "made   $1"
  fi
}
random() { od -An -N 24 -tx1 /dev/urandom | tr -d ' \n'; }

# The directory is closed to other users of this host; its files are read by the containers' own.
[ -d secrets ] || mkdir -m 700 secrets
[ -d secrets/gateway ] || mkdir -m 755 secrets/gateway
made secrets/POSTGRES_PASSWORD "$(random)"
made secrets/gateway/DATABASE_URL "postgresql://gateway:$(cat secrets/POSTGRES_PASSWORD)@postgres:5432/gateway"
made secrets/gateway/REDIS_PASSWORD "$(random)"
made secrets/gateway/JWT_SECRET "$(random)"
