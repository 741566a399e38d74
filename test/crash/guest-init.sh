#!/bin/busybox sh
# First process of the virtual machine: loads the drivers, puts the disks together, runs the work, and turns the machine off.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec >/dev/console 2>&1
# In the order of what they need of each other.
for name in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk overlay; do
  [ -e "/modules/$name.ko" ] && insmod "/modules/$name.ko"
done
mount -t ext4 -o ro /dev/vda /root
mount -t proc proc /root/proc
mount -t sysfs sysfs /root/sys
mount -t devtmpfs devtmpfs /root/dev
mount -t cgroup2 cgroup2 /root/sys/fs/cgroup
for folder in run tmp var/lib/crio var/log; do mount -t tmpfs tmpfs "/root/$folder"; done
mount -t ext4 -o commit=1 /dev/vdb /root/var/lib/containers
ip link set lo up
chroot /root /bin/sh /work.sh
# Without unmounting: what is not on the disk now is lost.
poweroff -f
reboot -f
