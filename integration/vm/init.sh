#!/bin/busybox sh
# The guest's first process: the host's root, read-only over 9p below a tmpfs, becomes the root; COMMAND (see guest.py)
# runs in it; its exit status goes to the results folder, and the machine is switched off.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod "/modules/$module"; done

mkdir -p /lower /upper /root
mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576,cache=loose,ro host /lower
mount -t tmpfs tmpfs /upper
mkdir /upper/files /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work overlay /root
for folder in proc sys dev tmp run results; do mkdir -p /root/$folder; done
mount -t proc proc /root/proc
mount -t sysfs sys /root/sys
mount -t devtmpfs dev /root/dev
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts devpts /root/dev/pts
mount -t tmpfs tmpfs /root/dev/shm
mount -t tmpfs -o mode=1777 tmpfs /root/tmp
mount -t tmpfs tmpfs /root/run
mount -t cgroup2 cgroup /root/sys/fs/cgroup
mount -t bpf bpf /root/sys/fs/bpf
# tracefs and debugfs are left to the collector.
mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576 results /root/results
ip link set lo up

# What is mapped is read a page at a time through 9p's cache, so large libraries are fetched in large pieces first.
mkdir /pieces
mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576,cache=none,ro pieces /pieces
while read -r file; do cp "/pieces$file" "/root$file"; done < /root/results/fetch
umount /pieces
ulimit -n 20000

chroot /root /bin/bash /results/command > /root/results/output 2>&1
echo $? > /root/results/status
sync
echo o > /proc/sysrq-trigger
sleep 60
