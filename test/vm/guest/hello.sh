# Commands for the hello device, taken in by guest/init.

hello() { bdf 0xfe22 0x0001; }

# at ATTRIBUTE [VALUE]: reads or writes an attribute of the hello device.
at() {
  folder=/sys/bus/pci/devices/$(hello) || { echo "there is no hello device"; return 1; }
  if [ $# -gt 1 ]; then echo "$2" > "$folder/$1"; else cat "$folder/$1"; fi
}

selftest() { at selftest "${1:-all}" && at results; }

flr() { at reset_method flr && at reset 1; }

# load MODE: loads the driver with this kind of interrupts, or binds it again with it.
load() {
  driver=/sys/bus/pci/drivers/hello
  [ -d $driver ] || { insmod hello.ko mode="$1"; return; }
  hello > $driver/unbind
  echo "$1" > /sys/module/hello/parameters/mode
  hello > $driver/bind
}
