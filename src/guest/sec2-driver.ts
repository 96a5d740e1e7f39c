import type { VfioDevice } from "../device/vfio-device.ts";
import { qmBar } from "../spec/hisi-qm.ts";
import {
  type AlgorithmName,
  algorithmBits,
  algorithmCapabilities,
  Bd3,
  sec2DeviceId,
} from "../spec/hisi-sec2.ts";
import type { Call } from "./call.ts";
import { type EngineDriverOptions, engineDefaults } from "./engine-options.ts";
import { QmDriver } from "./qm-driver.ts";
import type { QueuePair } from "./queue-pair.ts";
import { encodeSec2, type Sec2Request, type Sec2Result, sec2RequestBytes } from "./sec2-request.ts";

/** Drives SEC2, the symmetric crypto accelerator. Its calls throw a FerryError where they fail. */
export class Sec2Driver {
  readonly qm: QmDriver;
  /** What the device offers. */
  readonly algorithms: ReadonlySet<AlgorithmName>;
  readonly #queues: readonly QueuePair[];
  #next = 0;

  constructor(device: VfioDevice, options: EngineDriverOptions = {}) {
    const { depth, queues, dataBytesMax } = { ...engineDefaults, ...options };
    this.qm = new QmDriver(device, sec2DeviceId, options);
    const [low = 0, high = 0] = algorithmCapabilities[0] ?? [];
    const words = [low, high].map((offset) => this.qm.function.read(qmBar, offset));
    const names = Object.entries(algorithmBits) as [AlgorithmName, number][];
    const offered = ([, bit]: [string, number]): boolean =>
      (((words[bit >>> 5] ?? 0) >>> (bit & 31)) & 1) === 1;
    this.algorithms = new Set(names.filter(offered).map(([name]) => name));
    const requestBytes = sec2RequestBytes(dataBytesMax);
    const entry = { sqeBytes: Bd3.size, tagAt: Bd3.offset.tag };
    const queue = { ...entry, algType: 0, depth, requestBytes };
    this.#queues = Array.from({ length: queues }, () => this.qm.createQueue(queue));
  }

  submit(request: Sec2Request): Call<Sec2Result> {
    const queue = this.#queues[this.#next] as QueuePair;
    this.#next = (this.#next + 1) % this.#queues.length;
    return queue.submit((sqe, at, memory) => encodeSec2(request, sqe, at, memory));
  }

  run(request: Sec2Request): Sec2Result {
    return this.qm.wait(this.submit(request));
  }

  aesCbc(key: Uint8Array, iv: Uint8Array, data: Uint8Array, encrypt: boolean): Uint8Array {
    return this.run({ algorithm: "cbc(aes)", encrypt, key, iv, data }).data;
  }

  aesCtr(key: Uint8Array, iv: Uint8Array, data: Uint8Array): Uint8Array {
    return this.run({ algorithm: "ctr(aes)", encrypt: true, key, iv, data }).data;
  }

  /** Data and a tag of 16 bytes. */
  aesGcmSeal(key: Uint8Array, iv: Uint8Array, data: Uint8Array, aad?: Uint8Array): Sec2Result {
    const request = { algorithm: "gcm(aes)", encrypt: true, key, iv, data, tagBytes: 16 } as const;
    return this.run(aad === undefined ? request : { ...request, aad });
  }

  /** Throws a FerryError `bad-tag` when the data is not what was sealed. */
  aesGcmOpen(
    ...[key, iv, sealed, aad]: [Uint8Array, Uint8Array, Sec2Result, Uint8Array?]
  ): Uint8Array {
    const request = { algorithm: "gcm(aes)", encrypt: false, key, iv, ...sealed } as const;
    return this.run(aad === undefined ? request : { ...request, aad }).data;
  }

  close(): void {
    this.qm.close();
  }
}
