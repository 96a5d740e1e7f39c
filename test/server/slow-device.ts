/** A device whose state changes when the test says so, served to a client in one thread. */
import { errno } from "../../src/base/errno.ts";
import { RawClient } from "../../src/client/raw-client.ts";
import {
  deviceGetInfo,
  joined,
  message,
  proposal,
  type RawRequest,
} from "../../src/client/raw-requests.ts";
import { deferred, type Watch, type Wiring } from "../../src/device/vfio-device.ts";
import { Wrapper } from "../../src/device/wrapper.ts";
import { create } from "../../src/devices/hello/index.ts";
import type { End } from "../../src/server/session.ts";
import { Session } from "../../src/server/session.ts";
import { Feature, FeatureFlags } from "../../src/spec/vfio.ts";
import { HeaderFlags } from "../../src/spec/vfio-user.ts";
import { closeFd, createEventfd, drainEventfd } from "../../src/sys/descriptors.ts";
import { socketPair } from "../../src/sys/unix.ts";

const setState = FeatureFlags.mask.set | Feature.migDeviceState;

export class SlowDevice extends Wrapper {
  /** What `settle` is going to say. */
  result = deferred;
  turns = 0;
  moves = false;
  /** Signals that came on the device's descriptor, and how often it was looked at. */
  rung = 0;
  readonly doorbell = createEventfd();
  readonly #watches: readonly Watch[] = [
    {
      fd: this.doorbell,
      ready: () => {
        this.rung += drainEventfd(this.doorbell);
      },
    },
  ];
  #owes = false;

  constructor() {
    super(create());
  }

  override feature(...args: Parameters<Wrapper["feature"]>): number {
    if ((args[0] & (FeatureFlags.mask.set | FeatureFlags.mask.index)) !== setState) {
      return super.feature(...args);
    }
    if (this.#owes) return -errno.EBUSY;
    this.#owes = true;
    return deferred;
  }

  override settle(): number {
    const { result } = this;
    this.result = deferred;
    if (result !== deferred) this.#owes = false;
    return result;
  }

  override get moving(): boolean {
    return this.moves;
  }
  override get busy(): boolean {
    return true;
  }
  override work(): void {
    this.turns += 1;
  }
  override get watches(): readonly Watch[] {
    return this.#watches;
  }
  override park(): Wiring | null {
    return { mappings: [], irqs: [], ioEventfds: [], files: [] };
  }
}

/**
 * A session and its client. Before each of its turns the client says something that needs no
 * answer, so that the thread never waits.
 */
export class Served {
  readonly device: SlowDevice;
  readonly session: Session;
  client: RawClient;
  #turns = 0;
  #nextId = 100;
  /** What the client says before each turn; null for nothing. */
  chatter: Uint8Array | null = message(deviceGetInfo(), { flags: HeaderFlags.mask.noReply });

  constructor(device = new SlowDevice()) {
    this.device = device;
    this.session = new Session(
      device,
      () => this.#isOver(),
      () => 0,
    );
    const [ours, theirs] = socketPair();
    this.client = new RawClient(theirs);
    this.session.open(ours);
    this.client.send(message(proposal({ max_msg_fds: 1 })));
    this.run(2);
    this.client.receive(0);
  }

  #isOver(): boolean {
    if (this.#turns === 0) return true;
    this.#turns -= 1;
    if (this.chatter !== null) this.client.send(this.chatter);
    return false;
  }

  /** Lets the session go round so many times. */
  run(turns: number): End {
    this.#turns = turns;
    return this.session.run();
  }

  /** Sends a request and gives its id. */
  say(request: RawRequest, flags = 0): number {
    return this.sayOften(request, 1, flags);
  }

  /** Sends a request so many times in one piece, which the socket must take; the last id. */
  sayOften(request: RawRequest, count: number, flags = 0): number {
    const ids = Array.from({ length: count }, () => this.#nextId++);
    this.client.send(joined(...ids.map((messageId) => message(request, { messageId, flags }))));
    return ids.at(-1) ?? -1;
  }

  /** The replies that are there: id, and errno or 0. */
  heard(): Array<readonly [id: number, error: number]> {
    const replies: Array<readonly [number, number]> = [];
    for (;;) {
      const received = this.client.receive(0);
      if (typeof received === "string") return replies;
      replies.push([received.messageId, received.error]);
    }
  }

  end(): void {
    this.client.close();
    if (this.session.connected) this.session.close();
    closeFd(this.device.doorbell);
  }
}
