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
  # AF_ALG of newer kernels: not part of them, and only for the ciphers of some programs.
  for module in algif_skcipher algif_aead; do
    grep -q "^$module " /proc/modules || insmod $module.ko || return 1
  done
  restriction=/proc/sys/crypto/af_alg_restrict
  [ ! -e $restriction ] || echo 0 > $restriction
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

# outstanding NAME: requests that the driver has sent and not had back.
outstanding() { echo $(($(counter "$1" send_cnt) - $(counter "$1" recv_cnt))); }

# interrupts NAME: how often the accelerator has interrupted.
interrupts() { awk -v name="$1" '/PCI-MSI/ && $0 ~ name { n += $2 + $3 } END { print n + 0 }' /proc/interrupts; }

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

# What says something of the machine's load only: an interrupt took long, or a clock's readout.
noise='hrtimer: interrupt took|clocksource: Long readout|clocksource: timekeeping watchdog'
noise="$noise|TSC found unstable after boot"

# complaints: the kernel's warnings, and worse, since the last call, but for noise.
complaints() {
  dmesg -r -c | grep '^<[0-4]>' | grep -vE "$noise"
  return 0
}

# busy NAME COMMAND...: gives the accelerator work by this command, again and again, until `idle`.
# Returns when the first request is answered.
busy() {
  load=/run/load.$1
  before=$(counter "$1" recv_cnt)
  accelerator=$1
  shift
  rm -f "$load".*
  until [ -e "$load.stop" ]; do "$@"; done > "$load.results" 2>&1 &
  echo $! > "$load.pid"
  within 200 answered "$accelerator" "$before"
}

# answered NAME COUNT: whether the accelerator has answered more than so many requests.
answered() { [ "$(counter "$1" recv_cnt)" -gt "$2" ]; }

# idle NAME: lets the work end and prints how often it had which result.
idle() {
  load=/run/load.$1
  touch "$load.stop"
  killall -q afalg
  within 200 test ! -d "/proc/$(cat "$load.pid")" || echo "the load of $1 hangs"
  sort "$load.results" | uniq -c
}

# swap COMPRESSOR: swaps to RAM disks, through zswap with this compressor. swap off: no longer.
swap() {
  [ -d /sys/module/zswap ] || return 0
  [ "$1" = off ] && { swap_off; return; }
  zswap_uses "$1" && echo Y > /sys/module/zswap/parameters/enabled || return 1
  for disk in 0 1 2 3 4; do
    mkswap /dev/ram$disk > /dev/null && swapon /dev/ram$disk || return 1
  done
  [ ! -d /run/cgroup/squeezed ] || return 0
  mkdir -p /run/cgroup && mount -t cgroup2 cgroup2 /run/cgroup || return 1
  echo +memory > /run/cgroup/cgroup.subtree_control
  mkdir /run/cgroup/squeezed
  # Kernels that keep a page as it is when they cannot compress it would fill the group with them.
  [ ! -e /sys/kernel/debug/zswap/stored_incompressible_pages ] ||
    echo 2M > /run/cgroup/squeezed/memory.zswap.max
}

# The kernel's own compressor takes the place of the one that may go.
swap_off() {
  for disk in 0 1 2 3 4; do
    ! grep -q "^/dev/ram$disk " /proc/swaps || swapoff /dev/ram$disk || return 1
  done
  zswap_uses lzo
}

zswap_uses() {
  echo "$1" > /sys/module/zswap/parameters/compressor
  [ "$(cat /sys/module/zswap/parameters/compressor)" = "$1" ]
}

# squeeze LIMIT COMMAND...: runs a command with this much memory.
squeeze() {
  echo "$1" > /run/cgroup/squeezed/memory.max || return 1
  shift
  sh -c 'echo $$ > /run/cgroup/squeezed/cgroup.procs && exec "$@"' - "$@"
}

# fill LIMIT MEGABYTES: begins to fill memory with this much of it.
fill() {
  rm -f /run/filled.*
  { squeeze "$1" pressure "$2" stop > /run/filled.result 2>&1; touch /run/filled.end; } &
}

# filled: whether that has come to its end, or to another one. On a busy machine it takes a while
# until it has begun: that nothing runs says nothing.
filled() { [ -e /run/filled.end ] || grep -qs '^State:.T' "/proc/$(pidof pressure)/status"; }

# read_back: reads what was filled, and prints whether it was all there. Leaves nothing behind.
read_back() {
  killall -CONT pressure
  within 200 test -e /run/filled.end || { echo "pressure hangs"; killall -KILL pressure; }
  cat /run/filled.result
}
