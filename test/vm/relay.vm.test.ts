/**
 * A running QEMU's device is another host's, behind `ferry relay`, and changes to one of this host
 * and back while the guest's driver is at work.
 */
import { join } from "node:path";
import { afterAll, beforeAll, describe, test } from "vitest";
import { makeAuthority, makeHost } from "../../src/cli/pki-files.ts";
import { type GuestWork, helloWork } from "./guest-work.ts";
import { Server } from "./server.ts";
import { WorkingVm } from "./working-vm.ts";

/** How often the device changes its host in each guest. */
const swaps = 4;
const port = 7311;
const address = `tls://127.0.0.1:${port}`;

/** Not Linux's driver of SEC2: it gives a mailbox command 1 ms, which a link does not promise. */
const rows: ReadonlyArray<{ readonly title: string; readonly work: GuestWork }> = [
  { title: "hello in an x86 guest, with msix interrupts", work: helloWork("msix") },
  { title: "hello in an x86 guest, with intx interrupts", work: helloWork("intx") },
];

/** The relay first, a server of this host, and the one that serves the relay. */
async function relayAndOwn({ devices: [device] }: GuestWork, folder: string): Promise<Server[]> {
  const at = (name: string): string => join(folder, name);
  const name = device?.name ?? "";
  const authority = await makeAuthority(at("pki"));
  const [alice, bob] = [
    await makeHost(at("pki"), authority, "alice"),
    await makeHost(at("pki"), authority, "bob"),
  ];
  const toAlice = ["--remote", address, "--pki", bob, "--peer", "alice"];
  const far = await Server.run(["serve", name, ...toAlice], at("far"));
  const relay = ["relay", address, "--pki", alice, "--peer", "bob"];
  return [await Server.run(relay, at("near")), await Server.start(name, at("own")), far];
}

describe.each(rows)("$title", ({ title, work }) => {
  let vm: WorkingVm;
  beforeAll(async () => {
    vm = await WorkingVm.start(work, relayAndOwn);
  });
  afterAll(() => vm?.end());

  test("works on another host", () => vm.watch.expectGoesOn());

  test(`works on through ${swaps} swaps between the hosts`, () => vm.swap(title, swaps));

  test("all that was computed is right, and the kernel has no complaint", () =>
    vm.watch.expectRight());
});
