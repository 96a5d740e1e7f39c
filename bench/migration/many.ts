/** Many VFs of one host that leave it at once. */
import { askControl } from "../../src/host/control-line.ts";
import type { Report } from "../../src/migration/hosts/report.ts";
import { Hosts } from "./hosts.ts";

const controlMs = 60_000;

/** Evacuates `count` SEC2 VFs: how long all of it took, and how long each stood still. */
export async function evacuate(count: number) {
  const options = ["--set", "queues=16", "--count", String(count)];
  await using hosts = await Hosts.start("hisi-sec2", options);
  const [alice, bob] = hosts.plans;
  const [from, to] = [alice?.berths[0], bob?.berths[0]];
  if (from === undefined || to === undefined) throw new Error("no hosts");
  const socketOf = (path: string, n: number): string => path.replace(/-0\.sock$/, `-${n}.sock`);
  const begun = performance.now();
  const reports = await Promise.all(
    Array.from({ length: count }, async (_, n) => {
      const device = socketOf(to.socket, n);
      const offer = { method: "migrate-offer", device, from: alice?.name, pki: bob?.pki };
      const listening = { ...offer, listen: "tls://127.0.0.1:0" };
      const { token, address } = (await askControl(to.control, listening, {
        timeoutMs: controlMs,
      })) as {
        readonly token: string;
        readonly address: string;
      };
      const request = {
        ...{ method: "migrate", device: socketOf(from.socket, n), to: address, token },
        ...{ pki: alice?.pki, peer: bob?.name, vcpusStopped: true },
      };
      return ((await askControl(from.control, request)) as { readonly report: Report }).report;
    }),
  );
  const stayed = reports.find(({ outcome }) => outcome?.outcome !== "moved");
  if (stayed !== undefined) throw new Error(stayed.outcome?.sentence);
  return {
    elapsedMs: performance.now() - begun,
    downtimesMs: reports.map(({ downtimeMs }) => downtimeMs ?? Number.NaN),
  };
}
