import { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { setUserTimeout } from "../../sys/tcp.ts";
import { socketPair } from "../../sys/unix.ts";
import { descriptorOf } from "../peer.ts";

/** A host that is asked whether it is there after so long a silence, and then has so long. */
const silenceMs = 5000;
const patienceMs = 10_000;

/**
 * Carries bytes between another host and a socket of this process, whose `fd` is for whoever speaks
 * over it. Neither side can make it keep more than what a stream buffers; when one ends, the other
 * one hears what was said before, and its end.
 */
export class Conduit {
  readonly fd: number;
  /** Why it has ended. */
  readonly ended: Promise<string>;

  constructor(far: TLSSocket) {
    const [ours, theirs] = socketPair();
    this.fd = theirs;
    const near = new Socket({ fd: ours, readable: true, writable: true });
    far.setKeepAlive(true, silenceMs);
    setUserTimeout(descriptorOf(far), patienceMs);
    let why = "";
    const because = (reason: string) => (): void => void (why ||= reason);
    near.on("error", because("this side has ended it"));
    near.on("end", because("this side has ended it"));
    far.on("error", (error) => because(error.message)());
    far.on("end", because("the other side has ended it"));
    this.ended = new Promise((resolve) => {
      far.on("close", () => {
        near.destroySoon();
        resolve(why || "it is closed");
      });
    });
    near.on("close", () => far.destroySoon());
    near.pipe(far);
    far.pipe(near);
  }
}
