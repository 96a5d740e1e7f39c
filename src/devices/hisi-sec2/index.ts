import { FerryError } from "../../base/errors.ts";
import type { VfioDevice } from "../../device/vfio-device.ts";
import type { AlgorithmName } from "../../spec/hisi-sec2.ts";
import { Sec2Engine } from "../hisi-acc/sec2/engine.ts";
import { availableAlgorithms } from "../hisi-acc/sec2/transforms.ts";
import { createVf, vfOptions } from "../hisi-acc/vf.ts";

/** What `create` takes, for the command line. */
export const options = {
  ...vfOptions,
  algorithms: { default: "all", doc: "those to offer, by their kernel names, with commas between" },
} as const;

/** A SEC2 VF: symmetric ciphers. */
export function create(given: Readonly<Record<string, string>> = {}): VfioDevice {
  const text = given["algorithms"] ?? options.algorithms.default;
  const engine = new Sec2Engine(text === "all" ? {} : { algorithms: algorithmsOf(text) });
  return createVf(engine, given);
}

/** Commas also stand inside of a name's brackets: `authenc(hmac(sha1),cbc(aes))`. */
function algorithmsOf(text: string): AlgorithmName[] {
  const available = availableAlgorithms();
  const left = text.replaceAll(/\s/g, "");
  const chosen: AlgorithmName[] = [];
  for (let at = 0; at === 0 || at < left.length; ) {
    const rest = left.slice(at);
    const name = available.find((each) => rest === each || rest.startsWith(`${each},`));
    if (name === undefined) {
      const known = available.join(", ");
      throw new FerryError(
        "bad-option",
        `algorithms=${rest} is not known here; there are ${known}.`,
      );
    }
    chosen.push(name);
    at += name.length + 1;
  }
  return chosen;
}
