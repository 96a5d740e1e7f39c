/**
 * What the real-VM test is made of: which Debian packages become the emulator, the kernel, the
 * tools and the guest's root file system. One more pair of architecture and kernel is one more
 * entry of `guestRecipes`.
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
  source: 1,
  modules: 1,
  "kernel-modules": 1,
  programs: 1,
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
    /** The suite that it is of: Linux 6.12 in the stable one, the newest in the backports. */
    readonly suite: Suite;
    /** The end of the names of Debian's kernel packages: linux-image-FLAVOUR. */
    readonly flavour: string;
    /** Among them `shell_port`, the second serial port: guest/init takes commands there. */
    readonly commandLine: readonly string[];
  };
  /** What the kernel's own build needs to compile modules, and we programs, for this guest. */
  readonly build: {
    /** The compiler, and what else is needed besides `buildPackages`. */
    readonly packages: readonly string[];
    readonly compiler: string;
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
  /** Drivers that are compiled; the results become /modules/NAME.ko in the guest. */
  readonly modules: readonly ModuleRecipe[];
  /**
   * Modules of the kernel's package. They and all that they need lie in the guest's /modules,
   * where the file load-order lists them.
   */
  readonly kernelModules: readonly string[];
  /** Our programs: guest/NAME.c becomes the command NAME in the guest. */
  readonly helpers: readonly string[];
  /** Our commands for the guest's shell: the functions in guest/NAME.sh. */
  readonly commands: readonly string[];
  /** Machine type, processor and processor count, as QEMU's arguments. */
  readonly machine: readonly string[];
}

/** Drivers of one folder. */
export interface ModuleRecipe {
  /** guest/FOLDER holds the Kbuild file, and our own sources. */
  readonly folder: string;
  /** Paths of the modules that the build makes, without ".ko", within the folder. */
  readonly results: readonly string[];
  /**
   * What is added to the folder from the kernel's source, as Debian packages it, unmodified: where
   * each file or folder of the kernel's tree goes within ours.
   */
  readonly source?: Readonly<Record<string, string>>;
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

/**
 * The drivers of the HiSilicon accelerators and the SM4 cipher. No Debian kernel ships them: they
 * are built here, for Debian's kernel, from Debian's package of its source.
 */
const hisiModules: ModuleRecipe = {
  folder: "hisi",
  results: [
    ...["uacce/uacce", "hisilicon/hisi_qm", "hisilicon/sec2/hisi_sec2", "hisilicon/zip/hisi_zip"],
    ...["hisilicon/hpre/hisi_hpre", "sm4", "sm4_generic"],
  ],
  source: {
    "drivers/misc/uacce": "uacce",
    "drivers/crypto/hisilicon": "hisilicon",
    "crypto/sm4.c": "sm4.c",
    "crypto/sm4_generic.c": "sm4_generic.c",
  },
};

/** The way from programs to ciphers, for a kernel whose own does not lead to hardware. */
const algifModules: ModuleRecipe = {
  folder: "algif",
  results: ["algif_skcipher", "algif_aead"],
  source: {
    "crypto/algif_skcipher.c": "algif_skcipher.c",
    "crypto/algif_aead.c": "algif_aead.c",
  },
};

/** What the drivers and the tests need of any kernel. */
const kernelModules = [
  // The way from programs to ciphers, and the software that the devices are compared with.
  ...["af_alg", "authenc", "ccm", "gcm", "xts", "cmac", "des_generic"],
  // What the driver of HPRE builds on, and a parser of the keys that it is given.
  ...["ecdh_generic", "pkcs8_key_parser"],
  // Disks to swap to, and the IOMMU that one of the machines has.
  ...["brd", "virtio-iommu"],
  // A disk and a network card.
  ...["virtio_blk", "virtio_net"],
] as const;

/** What the kernel of one suite needs besides. */
const ofSuite: Record<Suite, Pick<GuestRecipe, "modules" | "kernelModules">> = {
  [suites.stable]: {
    modules: [],
    kernelModules: [
      ...["algif_skcipher", "algif_aead", "ghash-generic"],
      ...["curve25519-generic", "libcurve25519"],
    ],
  },
  [suites.backports]: {
    modules: [algifModules],
    // What the drivers of SEC2 and ZIP fall back on.
    kernelModules: ["ctr", "deflate"],
  },
};

/** All that the guests of one architecture have in common. */
type Architecture = Omit<GuestRecipe, "kernel" | "kernelModules"> & {
  readonly commandLine: readonly string[];
};

const amd64: Architecture = {
  architecture: "amd64",
  emulator: {
    packages: ["qemu-system-x86"],
    binary: "usr/bin/qemu-system-x86_64",
    firmware: ["qemu", "seabios"],
  },
  commandLine: ["console=ttyS0", "quiet", "printk.time=0", "panic=0", "shell_port=ttyS1"],
  build: {
    packages: ["gcc-14", "libc6-dev", "xz-utils"],
    compiler: "gcc-14",
    kernelArchitecture: "x86_64",
    crossCompile: "",
  },
  userland: {
    packages: ["busybox-static", "pciutils"],
    programs: ["usr/bin/busybox", "usr/bin/lspci"],
    dynamicLinker: "usr/lib64/ld-linux-x86-64.so.2",
    libraryFolder: "usr/lib/x86_64-linux-gnu",
  },
  modules: [{ folder: "hello", results: ["hello"] }, hisiModules],
  helpers: ["afalg", "blocks", "keys", "storm"],
  commands: ["hello", "hisi"],
  machine: ["-machine", "q35", "-cpu", "qemu64", "-smp", "2"],
};

const arm64: Architecture = {
  architecture: "arm64",
  emulator: {
    packages: ["qemu-system-arm"],
    binary: "usr/bin/qemu-system-aarch64",
    firmware: ["qemu"],
  },
  commandLine: [
    ...["console=ttyAMA0", "quiet", "printk.time=0", "panic=0", "shell_port=ttyAMA1"],
    // The drivers' pools do not fit, and what does not fit is reported page by page.
    "cma=0",
  ],
  build: {
    packages: ["gcc-14-aarch64-linux-gnu", "libc6-dev-arm64-cross", "xz-utils"],
    compiler: "aarch64-linux-gnu-gcc-14",
    kernelArchitecture: "arm64",
    crossCompile: "aarch64-linux-gnu-",
  },
  userland: {
    packages: ["busybox-static", "pciutils"],
    programs: ["usr/bin/busybox", "usr/bin/lspci"],
    dynamicLinker: "usr/lib/ld-linux-aarch64.so.1",
    libraryFolder: "usr/lib/aarch64-linux-gnu",
  },
  modules: [hisiModules],
  helpers: ["afalg", "keys", "pressure"],
  commands: ["hisi"],
  machine: ["-machine", "virt,gic-version=3", "-cpu", "cortex-a72", "-smp", "2"],
};

function guest(architecture: Architecture, suite: Suite, flavour: string): GuestRecipe {
  const { commandLine } = architecture;
  return {
    ...architecture,
    kernel: { suite, flavour, commandLine },
    modules: [...architecture.modules, ...ofSuite[suite].modules],
    kernelModules: [...kernelModules, ...ofSuite[suite].kernelModules],
  };
}

/**
 * Not cloud-arm64, which has no zswap. No amd64 kernel of the backports: from Linux 7.0 on, the
 * accelerators' driver has no way to their mailbox except on arm64.
 */
export const guestRecipes = {
  amd64: guest(amd64, suites.stable, "cloud-amd64"),
  arm64: guest(arm64, suites.stable, "arm64"),
  "arm64-backports": guest(arm64, suites.backports, "arm64"),
} as const;

export type GuestName = keyof typeof guestRecipes;

/** Tells the folders of guests of one architecture apart, in the cache. */
export function variantOf({ architecture, kernel }: GuestRecipe): string {
  return `${architecture}-${kernel.suite}`;
}
