#!/bin/sh
# Keeps the registry and the daemon of `make run` in one mount namespace, made rshared; ends both when told to.
#   supervise.sh FOLDER REGISTRY_CONFIG COMMAND [ARG...]
set -eu
folder=$1
registry=$2
shift 2
if [ -e "$folder/hugetlb" ]; then
  mount -t cgroup -o hugetlb cgroup /sys/fs/cgroup/hugetlb || echo "no hugetlb hierarchy" >&2
fi
mount --bind "$folder/cni-state" /var/lib/cni
mount --make-rshared /
docker-registry serve "$registry" &
registry_pid=$!
"$@" &
daemon_pid=$!
trap 'kill -TERM $daemon_pid 2>/dev/null' TERM INT
code=0
wait "$daemon_pid" || code=$?
# A signal ends the wait before the daemon has.
while kill -0 "$daemon_pid" 2>/dev/null; do wait "$daemon_pid" || code=$?; done
kill "$registry_pid" 2>/dev/null || true
wait "$registry_pid" || true
exit "$code"
