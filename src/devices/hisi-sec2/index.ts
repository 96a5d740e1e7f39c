import { FerryError } from "../../base/errors.ts";
import type { VfioDevice } from "../../device/vfio-device.ts";
import type { AlgorithmName } from "../../spec/hisi-sec2.ts";
import { Sec2Engine } from "../hisi-acc/sec2/engine.ts";
import { availableAlgorithms } from "../hisi-acc/sec2/transforms.ts";
import { createPlanes, createVf, type VfPlanes, vfOptions } from "../hisi-acc/vf.ts";

/** What `create` takes, for the command line. */
export const options = {
  ...vfOptions,
  algorithms: { default: "all", doc: "those to offer, by their kernel names, with commas between" },
} as const;

type Given = Readonly<Record<string, string>>;

/** A SEC2 VF: symmetric ciphers. */
export function create(given: Given = {}): VfioDevice {
  return createVf(engineOf(given), given);
}

/** The same, with what migrates it. */
export function planes(given: Given = {}): VfPlanes {
  return createPlanes(engineOf(given), given);
}

function engineOf(given: Given): Sec2Engine {
  const text = given["algorithms"] ?? options.algorithms.default;
  return new Sec2Engine(text === "all" ? {} : { algorithms: algorithmsOf(text) });
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
