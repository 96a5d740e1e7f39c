/**
 * What the real-VM test is made of: which Debian packages become the emulator, the kernel, the
 * tools and the guest's root file system. A second guest is one more entry of `guestRecipes`.
 */

/** Debian 13 is the first release whose backports carry a QEMU with `vfio-user-pci`. */
export const suites = { stable: "trixie", backports: "trixie-backports" } as const;

export type Suite = (typeof suites)[keyof typeof suites];

/** Raise a number when the code of that step changes in a way that its inputs do not show. */
export const stepRevisions = {
  emulator: 1,
  kernel: 1,
  tools: 1,
  userland: 1,
  modules: 1,
  initramfs: 1,
} as const;

export type StepName = keyof typeof stepRevisions;

export interface GuestRecipe {
  /** Debian's name of the guest's architecture. */
  readonly architecture: string;
  readonly emulator: {
    readonly packages: readonly string[];
    readonly binary: string;
    /** Folders below usr/share of the emulator's tree where it looks for firmware. */
    readonly firmware: readonly string[];
  };
  readonly kernel: {
    /** The end of the names of Debian's kernel packages: linux-image-FLAVOUR. */
    readonly flavour: string;
    /** Among them `shell_port`, the second serial port: guest/init takes commands there. */
    readonly commandLine: readonly string[];
  };
  /** What the kernel's own build needs to compile our modules for this guest. */
  readonly build: {
    readonly compilerPackage: string;
    readonly kernelArchitecture: string;
    readonly crossCompile: string;
  };
  readonly userland: {
    readonly packages: readonly string[];
    /** Paths in the userland tree that go into the initramfs, with the libraries they need. */
    readonly programs: readonly string[];
    readonly dynamicLinker: string;
    readonly libraryFolder: string;
  };
  /** Our drivers: the sources in guest/NAME become /modules/NAME.ko in the guest. */
  readonly modules: readonly string[];
  /** Machine type, processor and processor count, as QEMU's arguments. */
  readonly machine: readonly string[];
}

/** Needed by the kernel's build besides a compiler; an empty package database assumes nothing. */
export const buildPackages = [
  "bash",
  "binutils",
  "coreutils",
  "dash",
  "findutils",
  "grep",
  "kmod",
  "make",
  "mawk",
  "sed",
] as const;

export const guestRecipes = {
  amd64: {
    architecture: "amd64",
    emulator: {
      packages: ["qemu-system-x86"],
      binary: "usr/bin/qemu-system-x86_64",
      firmware: ["qemu", "seabios"],
    },
    kernel: {
      flavour: "cloud-amd64",
      commandLine: ["console=ttyS0", "quiet", "printk.time=0", "panic=0", "shell_port=ttyS1"],
    },
    build: { compilerPackage: "gcc-14", kernelArchitecture: "x86_64", crossCompile: "" },
    userland: {
      packages: ["busybox-static", "pciutils"],
      programs: ["usr/bin/busybox", "usr/bin/lspci"],
      dynamicLinker: "usr/lib64/ld-linux-x86-64.so.2",
      libraryFolder: "usr/lib/x86_64-linux-gnu",
    },
    modules: ["hello"],
    machine: ["-machine", "q35", "-cpu", "qemu64", "-smp", "2"],
  },
} as const satisfies Record<string, GuestRecipe>;

export type GuestName = keyof typeof guestRecipes;
