# Commands for the HiSilicon accelerators, taken in by guest/init. NAME is sec2, zip or hpre.

mount -t debugfs debugfs /sys/kernel/debug
mount -t tmpfs tmpfs /run
# A task that hangs shall be a complaint in the log before a test gives up.
sysctl -q kernel.hung_task_timeout_secs=20

# prerequisites: loads the modules of the kernel's package, and the ones that are built beside them.
prerequisites() {
  for module in $(cat load-order) sm4 sm4_generic uacce hisi_qm; do
    insmod "$module.ko" || return 1
  done
}

# vf NAME: the address of the accelerator.
vf() {
  case $1 in
    sec2) bdf 0x19e5 0xa256 ;;
    zip) bdf 0x19e5 0xa251 ;;
    hpre) bdf 0x19e5 0xa259 ;;
  esac
}

# bound NAME: the driver of the accelerator.
bound() { basename "$(readlink "/sys/bus/pci/devices/$(vf "$1")/driver")"; }

unbind() { echo "$(vf "$1")" > "/sys/bus/pci/drivers/hisi_$1/unbind"; }

bind() { echo "$(vf "$1")" > "/sys/bus/pci/drivers/hisi_$1/bind"; }

# vf_reset NAME: a function-level reset.
vf_reset() {
  device=/sys/bus/pci/devices/$(vf "$1")
  echo flr > "$device/reset_method" && echo 1 > "$device/reset"
}

# counter NAME COUNTER: one of the driver's counters in debugfs.
counter() { cat "/sys/kernel/debug/hisi_$1/$(vf "$1")/${1%2}_dfx/$2"; }

# algorithms NAME: "DRIVER SELFTEST" of every algorithm that a module registered.
algorithms() {
  awk -v module="hisi_$1" '
    $1 == "driver" { driver = $3 }
    $1 == "module" { mine = $3 == module }
    $1 == "selftest" && mine { print driver, $3 }
  ' /proc/crypto
}

# tested NAME: whether the kernel has tested all of them; it does so behind their registration.
tested() { algorithms "$1" | grep -q passed && ! algorithms "$1" | grep -q unknown; }

# complaints: the kernel's warnings, and worse, since the last call. That an interrupt took long says
# something of the machine's load only.
complaints() {
  dmesg -r -c | grep '^<[0-4]>' | grep -v 'hrtimer: interrupt took'
  return 0
}

# busy ARGUMENTS...: lets afalg be busy in the background.
busy() {
  afalg busy "$@" > /run/busy 2>&1 &
  echo $! > /run/busy.pid
}

# idle: ends it and prints what it has to say.
idle() {
  kill "$(cat /run/busy.pid)"
  within 20 test ! -d "/proc/$(cat /run/busy.pid)" || echo "afalg hangs"
  cat /run/busy
}

# swap: swaps to RAM disks, through zswap with this compressor.
swap() {
  cd /sys/module/zswap/parameters && echo "$1" > compressor && echo Y > enabled || return 1
  [ "$(cat compressor)" = "$1" ] || return 1
  for disk in 0 1 2 3 4; do
    mkswap /dev/ram$disk > /dev/null && swapon /dev/ram$disk || return 1
  done
  mkdir -p /run/cgroup && mount -t cgroup2 cgroup2 /run/cgroup || return 1
  echo +memory > /run/cgroup/cgroup.subtree_control
  mkdir /run/cgroup/squeezed
}

# squeeze LIMIT COMMAND...: runs a command with this much memory.
squeeze() {
  echo "$1" > /run/cgroup/squeezed/memory.max || return 1
  shift
  sh -c 'echo $$ > /run/cgroup/squeezed/cgroup.procs && exec "$@"' - "$@"
}
