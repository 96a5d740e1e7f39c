import { assert } from "../base/assert.ts";
import { deferred, type VfioDevice } from "../device/vfio-device.ts";
import { Header, HeaderFlags, MessageType } from "../spec/vfio-user.ts";
import type { Request } from "./request.ts";

const nothing = new Uint8Array(0);

/**
 * The reply to a DEVICE_FEATURE whose result the device gives later. There is one at most: a device
 * that has deferred an answer refuses whatever it would have to defer besides.
 */
export class LateReply {
  /** The reply as it will be if the device succeeds; empty for a client that wants none. */
  #reply: Uint8Array<ArrayBuffer> = nothing;
  #waits = false;

  /** True while the device has not given its result. */
  get waits(): boolean {
    return this.#waits;
  }

  /** Keeps what the reply needs of its request: a set is answered with itself. */
  keep({ bytes, at, length }: Request, wanted: boolean): void {
    assert(!this.#waits, "a device defers one answer at a time");
    this.#waits = true;
    this.#reply = wanted ? bytes.slice(at - Header.size, at + length) : nothing;
    if (wanted) writeKind(this.#reply, 0);
  }

  /** The client has gone; nobody asks for the result any more. */
  forget(): void {
    this.#waits = false;
    this.#reply = nothing;
  }

  /** The reply, if the device has its result by now: null while it has none, empty for no reply. */
  take(device: VfioDevice): Uint8Array | null {
    const result = device.settle?.() ?? deferred;
    if (result === deferred) return null;
    const reply = this.#reply;
    this.forget();
    if (result >= 0 || reply.length === 0) return reply;
    writeKind(reply, -result);
    return reply.subarray(0, Header.size);
  }
}

/** Makes a command its reply, or its reply with an error: a header alone then. */
function writeKind(message: Uint8Array<ArrayBuffer>, error: number): void {
  const view = new DataView(message.buffer);
  const failed = error !== 0;
  Header.set(view, 0, {
    ...Header.get(view, 0),
    messageSize: failed ? Header.size : message.length,
    flags: failed ? MessageType.reply | HeaderFlags.mask.error : MessageType.reply,
    error,
  });
}
