import { decode, encode, protocolVersion } from "../src/migration/hosts/link-messages.ts";
import { Process } from "./process.ts";
import type { Trip } from "./trip.ts";
import type { World } from "./world.ts";

const patienceMs = 30_000;

/** Says HELLO with a token that was used already: a place is given out once. */
export async function replay(world: World, { from, to, token, used }: Trip): Promise<void> {
  if (!used || !to.alive || !from.alive || !to.reachable) return;
  world.log("somebody tries the token once more");
  const link = await to.accept(from, new Process()).catch(() => null);
  if (link === null) return;
  const { compatibility } = from.machine.migratable;
  const hello = { protocol: protocolVersion, token, device: world.kind.name, compatibility };
  let answer: string | null = null;
  const talk = async (): Promise<void> => {
    await link.send(encode({ say: "hello", ...hello, purpose: "migrate" }));
    const frame = await link.receive();
    answer = frame === null ? "nothing" : (decode(frame)?.say ?? "nonsense");
  };
  talk().catch(() => {
    answer = "nothing";
  });
  await world.until(() => answer !== null || !to.alive, patienceMs);
  link.close();
  if (answer === "accept") world.fail("a token is good once", `${to.name} accepts it again`);
}
