/**
 * What guests are given to do while things happen under them, without end, and how it is judged:
 * every result by the guest itself, and that it goes on by counters that grow and never fall.
 */
import { getDiffieHellman } from "node:crypto";
import { expect } from "vitest";
import { busyCommand, usualMode } from "./hisi-algorithms.ts";
import { type Accelerator, accelerators } from "./hisi-machine.ts";
import { powerCommand, pressure } from "./hisi-work.ts";
import { type GuestName, suites } from "./recipe.ts";

/** A guest, its devices, and commands for its shell. */
export interface GuestWork {
  readonly guestName: GuestName;
  readonly memoryMiB: number;
  /** What is served to it, and how. */
  readonly devices: ReadonlyArray<{ readonly name: string; readonly settings: readonly string[] }>;
  /** Sets the driver up and gives it work without end. */
  readonly begin: string;
  /** What has been done and how often a device has interrupted: numbers that grow. */
  readonly grows: string;
  /** What went wrong so far, as numbers. */
  readonly errors: string;
  /** Ends the work and prints how all of it went, and what is outstanding then. */
  readonly end: string;
  readonly right: RegExp;
}

type HelloInterrupts = "msi" | "msix" | "intx";

/** A driver that tests its devices: the exact number of interrupts, of doorbells, all DMA. */
export function helloWork(
  interrupts: HelloInterrupts,
  settings: readonly string[] = [],
  count = 1,
): GuestWork {
  const vectors = interrupts === "msix" ? "[01]" : "0";
  const all = "/sys/bus/pci/drivers/hello/*:*";
  const test = "echo all > $each/selftest && cat $each/results";
  return {
    ...{ guestName: "amd64", memoryMiB: 512 },
    devices: Array.from({ length: count }, () => ({ name: "hello", settings })),
    begin:
      `load ${interrupts} && complaints > /dev/null && rm -f /stop /results /pids && ` +
      `for each in ${all}; do (until [ -e /stop ]; do ${test}; done >> /results 2>&1) & ` +
      "echo $! >> /pids; done && within 20 test -s /results",
    grows:
      `wc -l < /results; cat ${all}/counter; ` +
      `cat ${all}/interrupts | tr ' ' '\\n' | sed -n 's/^vector${vectors}=//p'`,
    // The last line may be one that is being written.
    errors: "sed '$d' /results | grep -vc ' ok '",
    end:
      "touch /stop; for pid in $(cat /pids); do within 20 test ! -d /proc/$pid; done; " +
      "sort /results | uniq -c",
    right: /^ +\d+ RESULT \S+ ok /,
  };
}

const group = getDiffieHellman("modp5");
group.generateKeys();
const publicKey = group.getPublicKey("hex").replace(/^0+/, "");

/** What each driver does again and again, how a result looks, and its counters of errors. */
const loads = {
  sec2: {
    command: busyCommand(usualMode(suites.stable)),
    right: /1 RESULT \S+ ok requests=\d+ errors=0/,
    errors: ["err_bd_cnt", "invalid_req_cnt"],
  },
  zip: {
    command: pressure.command,
    right: new RegExp(`\\d+ ${pressure.result}`),
    errors: ["err_bd_cnt"],
  },
  // The kernel clears what HPRE is to write to, so a result that does not come is none of before.
  hpre: {
    command: powerCommand(group.getPrime(), group.getGenerator(), group.getPrivateKey()),
    right: new RegExp(`\\d+ RESULT dh ok 0*${publicKey}`),
    errors: ["send_fail_cnt", "invalid_req_cnt"],
  },
} as const;

/** An arm64 guest whose Linux drivers have these accelerators at work. */
export function hisiWork(
  names: readonly Accelerator[],
  memoryMiB: number,
  settings: readonly string[] = [],
): GuestWork {
  const each = (command: (name: Accelerator) => string, between: string): string =>
    names.map(command).join(between);
  const swaps = names.includes("zip") ? "swap deflate && " : "";
  return {
    ...{ guestName: "arm64", memoryMiB },
    devices: names.map((name) => ({ name: `hisi-${name}`, settings })),
    begin:
      `prerequisites && ${each((name) => `insmod hisi_${name}.ko`, " && ")} && ` +
      `${each((name) => `within 200 tested ${name}`, " && ")} && ${swaps}` +
      `complaints > /dev/null && ${each((name) => `busy ${name} ${loads[name].command}`, " && ")}`,
    grows: each((name) => `counter ${name} recv_cnt; interrupts ${name}`, "; "),
    errors: each(
      (name) => loads[name].errors.map((at) => `counter ${name} ${at}`).join("; "),
      "; ",
    ),
    end: each((name) => `idle ${name}; echo "outstanding $(outstanding ${name})"`, "; "),
    right: new RegExp(
      `^ +(${names.map((name) => loads[name].right.source).join("|")})$|^outstanding 0$`,
    ),
  };
}

/** SEC2 alone. */
export const sec2Work = (memoryMiB: number, settings: readonly string[] = []): GuestWork =>
  hisiWork(["sec2"], memoryMiB, settings);

/** All three. */
export const accelerating = hisiWork(accelerators, 1536, ["vectors=split"]);

/** How long a guest that works may take to show it, on a machine that has other things to do. */
const patienceMs = 60_000;

/** Work that goes on in a guest. */
export class Watch {
  readonly #work: GuestWork;
  readonly #guest: (command: string, timeoutMs?: number) => Promise<string>;
  #last: readonly number[] = [];

  /** `guest` runs a line of shell in the guest, wherever it is. */
  constructor(work: GuestWork, guest: (command: string, timeoutMs?: number) => Promise<string>) {
    this.#work = work;
    this.#guest = guest;
  }

  async begin(): Promise<void> {
    await this.#guest(this.#work.begin, 300_000);
    this.#last = await this.#numbers(this.#work.grows);
  }

  async #numbers(command: string): Promise<number[]> {
    const lines = (await this.#guest(`${command} || true`)).trim().split("\n");
    const numbers = lines.map(Number);
    expect(numbers.filter(Number.isNaN), lines.join()).toEqual([]);
    return numbers;
  }

  /**
   * Since the last look nothing was lost or went wrong, and from now on everything goes on. Soon
   * after a guest has stood still for long, its kernel complains of its clocks: that is let be.
   */
  async expectGoesOn(stoodStill = false): Promise<void> {
    const before = this.#last;
    const base = await this.#numbers(this.#work.grows);
    expect(
      base.filter((each, index) => each < (before[index] ?? 0)),
      `${base} follow ${before}`,
    ).toEqual([]);
    const endMs = Date.now() + patienceMs;
    do this.#last = await this.#numbers(this.#work.grows);
    while (this.#last.some((each, index) => each <= base[index]!) && Date.now() < endMs);
    const stood = this.#last.filter((each, index) => each <= base[index]!);
    expect(stood, `${this.#last} follow ${base}`).toEqual([]);
    expect((await this.#numbers(this.#work.errors)).filter((each) => each !== 0)).toEqual([]);
    const complaints = await this.#guest("complaints");
    if (!stoodStill) expect(complaints).toBe("");
  }

  /** Ends the work: all that was computed is right, and the kernel has no complaint. */
  async expectRight(): Promise<void> {
    const lines = (await this.#guest(this.#work.end)).split("\n").filter((line) => line !== "");
    expect(lines.length).toBeGreaterThan(0);
    expect(lines.filter((line) => !this.#work.right.test(line))).toEqual([]);
    expect(await this.#guest("complaints")).toBe("");
  }
}
