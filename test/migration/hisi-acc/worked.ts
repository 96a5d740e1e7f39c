/** A function that has worked, its state, and where it could go to. */
import { expect } from "vitest";
import { errno } from "../../../src/base/errno.ts";
import { AccSection } from "../../../src/migration/drivers/hisi-acc/sections.ts";
import { AccVfData } from "../../../src/spec/acc-vf-data.ts";
import { MigState } from "../../../src/spec/vfio.ts";
import { boot, type Control, Host, type Machine } from "./bench.ts";
import { changed, savedSections, streamOf, withSection } from "./streams.ts";

const { vfData } = AccSection;

/** Serves what is there and counts what the guest gets of it. */
function serve({ host, driver, pairs }: Machine): number {
  host.vmm.run();
  driver.events();
  return pairs.reduce((sum, pair) => sum + pair.poll().length, 0);
}

/** Does a device of a guest work? */
export function expectToWork(machine: Machine): void {
  for (let i = 0; i < 6; i++) {
    for (const pair of machine.pairs) pair.submit(0, 0, 0, 1);
    expect(serve(machine)).toBe(machine.pairs.length);
  }
  expect(machine.driver.errors()).toEqual([]);
}

/** A worked function's sections, and a host that they could go to. */
export function prepared(control: Control = "own") {
  const source = boot(new Host(control));
  expectToWork(source);
  const sections = savedSections(source.host);
  const host = new Host(control);
  const vfDataOf = (changes: Partial<ReturnType<typeof AccVfData.get>>): Uint8Array => {
    const section = changed(sections.get(vfData)!, AccVfData, changes);
    return streamOf(host, withSection(sections, section));
  };
  return { source, sections, host, vfDataOf, good: () => streamOf(host, sections.values()) };
}

/** Loads something that is to be refused; what it was refused for. */
export function refused(host: Host, stream: Uint8Array): string {
  expect(host.load(stream)).toMatchObject({ result: -errno.EINVAL });
  expect(host.device.migrationState).toBe(MigState.resuming);
  return host.device.refusal;
}
