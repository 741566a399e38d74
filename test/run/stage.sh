#!/bin/sh
# Second half of entering the test environment, already in new mount and network namespaces: puts private folders over
# every place that the daemon and its helpers write to, then runs the command.
#   stage.sh FOLDER COMMAND [ARG...]
set -eu
folder=$1
shift
mount -t tmpfs -o mode=755 tmpfs /run
if [ -s "$folder/resolv.conf" ] && [ ! -e /etc/resolv.conf ]; then
  target=$(readlink -m /etc/resolv.conf)
  mkdir -p "$(dirname "$target")"
  cp "$folder/resolv.conf" "$target"
fi
while read -r path; do
  mkdir -p "$folder/root$path"
  mount --bind "$folder/root$path" "$path"
done < "$folder/mountpoints"
# Debian's crun wants every v1 controller that the kernel has on a hybrid host.
if [ -d /sys/fs/cgroup/hugetlb ] && ! mountpoint -q /sys/fs/cgroup/hugetlb; then
  mount -t cgroup -o hugetlb cgroup /sys/fs/cgroup/hugetlb || echo "no hugetlb hierarchy" >&2
fi
mount --make-rshared /
ip link set lo up
# Host ports are reached at 127.0.0.1 too, as on a node with kube-proxy; critest does.
sysctl -qw net.ipv4.conf.all.route_localnet=1
nft -f - <<'END'
table ip crio-ts-test {
  chain postrouting {
    type nat hook postrouting priority srcnat;
    ip saddr 127.0.0.0/8 oifname != "lo" masquerade
  }
}
END
exec "$@"
