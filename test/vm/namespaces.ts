/** Two network namespaces with a cable between them: two hosts as far as a network can tell. */
import { spawnSync } from "node:child_process";

function ip(...args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync("ip", args, { encoding: "utf8" });
  if (status === 0) return stdout;
  throw new Error(`ip ${args.join(" ")}: ${error?.message ?? stderr}`);
}

export class Namespace {
  readonly name: string;
  readonly address: string;

  constructor(name: string, address: string) {
    this.name = `ferry-${process.pid}-${name}`;
    this.address = address;
  }

  /** What starts a process in it. */
  get launcher(): readonly string[] {
    return ["ip", "netns", "exec", this.name];
  }

  /** How many bytes have come over the cable. */
  get receivedBytes(): number {
    const [link] = JSON.parse(ip("-n", this.name, "-s", "-j", "link", "show", "cable"));
    return link.stats64.rx.bytes;
  }

  /** Pulls the cable out, or puts it in again: nobody is told. */
  set isPlugged(isPlugged: boolean) {
    ip("-n", this.name, "link", "set", "cable", isPlugged ? "up" : "down");
  }
}

/** Makes both, or says why that cannot be done here. */
export function connectNamespaces(one: Namespace, other: Namespace): string | null {
  try {
    for (const { name } of [one, other]) ip("netns", "add", name);
    const [here, there] = [one, other].map(({ name }) => ["name", "cable", "netns", name]);
    ip("link", "add", ...(here ?? []), "type", "veth", "peer", ...(there ?? []));
    for (const { name, address } of [one, other]) {
      ip("-n", name, "addr", "add", `${address}/24`, "dev", "cable");
      ip("-n", name, "link", "set", "cable", "up");
    }
    return null;
  } catch (thrown) {
    removeNamespaces(one, other);
    return `network namespaces cannot be made here: ${(thrown as Error).message.trim()}`;
  }
}

export function removeNamespaces(...all: readonly Namespace[]): void {
  for (const { name } of all) spawnSync("ip", ["netns", "del", name]);
}
