import { createCipheriv } from "node:crypto";
import type { Call } from "../../src/guest/call.ts";
import type { MailboxArguments } from "../../src/guest/mailbox.ts";
import { encodeSec2, type Sec2Request, type Sec2Result } from "../../src/guest/sec2-request.ts";
import { qmBar } from "../../src/spec/hisi-qm.ts";
import { signalEventfd } from "../../src/sys/descriptors.ts";
import { type BoundAct, Guest } from "../guest.ts";
import type { Host } from "../host.ts";
import type { World } from "../world.ts";
import { acts } from "./acts.ts";
import { dataBytesMax, qm, vcpu } from "./driver.ts";
import { completed } from "./model.ts";

/** A request under way, and what must come of it. */
export interface Trial {
  readonly call: Call<Sec2Result>;
  readonly expected: Uint8Array;
}

const keyBytes = 16;
const blockBytes = 16;
/** After that long a request that is not done is lost. */
const patienceMs = 60_000;
/** Between two looks, the more of them there were the longer. */
const lookMsMax = 100;
const countMsMax = 60_000;

/** A guest with the driver of an accelerator's VF, whose every answer is verified. */
export class Sec2Guest extends Guest {
  readonly acts: readonly BoundAct[] = this.bound(acts);
  /** Interrupts that the driver has had, by vector. */
  readonly #had = qm.function.eventfds.map(() => 0);
  /** What all devices had completed when the driver began, and what it has got of them since. */
  #before = 0;
  #ended = 0;

  constructor(world: World, host: Host, mark: number) {
    super(world, host, mark);
    vcpu.of(this);
  }

  /** Sets the function up from scratch; behind a reset nothing of before is under way. */
  protected override async begin(): Promise<void> {
    await vcpu.run(() => qm.reset());
    this.#before = completed();
    this.#ended = 0;
  }

  /** Gives the device requests for its queues, as many as there is room for. */
  async submit(count: number): Promise<Trial[]> {
    const trials: Trial[] = [];
    await vcpu.run(() => {
      for (let i = 0; i < count; i++) trials.push(...this.#submit());
    });
    return trials;
  }

  #submit(): Trial[] {
    const queue = this.random.pick(qm.queues);
    if (queue.isFull) return [];
    const [key, iv] = [this.random.bytes(keyBytes), this.random.bytes(blockBytes)];
    const blocks = this.random.between(1, dataBytesMax / blockBytes);
    const data = this.random.bytes(blockBytes * blocks);
    const cipher = createCipheriv("aes-128-cbc", key, iv).setAutoPadding(false);
    const request: Sec2Request = { algorithm: "cbc(aes)", encrypt: true, key, iv, data };
    const call = queue.submit((sqe, at, memory) => encodeSec2(request, sqe, at, memory));
    return [{ call, expected: cipher.update(data) }];
  }

  /** Lets the driver look for answers, with the interrupts that have come. */
  async look(): Promise<void> {
    await this.vcpus();
    let news = false;
    for (const [vector, fd] of qm.function.eventfds.entries()) {
      const came = this.signals(vector);
      if (came === this.#had[vector]) continue;
      this.#had[vector] = came;
      signalEventfd(fd);
      news = true;
    }
    if (news) await vcpu.run(() => qm.poll(0));
  }

  /** Waits for the end of requests, each of which must have gone well. */
  async finishAll(trials: readonly Trial[]): Promise<void> {
    const { world, random } = this;
    const endMs = world.clock.now() + patienceMs;
    for (let pauseMs = 4; trials.some(({ call }) => !call.done); pauseMs *= 2) {
      if (world.clock.now() > endMs) return world.fail("nothing lost", "a request never ends");
      await world.clock.sleep(random.below(Math.min(pauseMs, lookMsMax)));
      await this.look();
    }
    this.#ended += trials.length;
    for (const { call, expected } of trials) {
      const right = call.failure === null && Buffer.compare(call.value.data, expected) === 0;
      if (!right) world.fail("no wrong answer", call.failure?.message ?? "a ciphertext is wrong");
    }
  }

  /** The device has done what it was asked to, once. */
  async count(): Promise<void> {
    const due = (): number => this.#before + this.#ended;
    if (await this.world.until(() => completed() === due(), countMsMax)) return;
    const more = completed() - due();
    const what = more > 0 ? "done twice" : "lost";
    this.world.fail(`nothing ${what}`, `devices have completed ${more} more than were asked for`);
  }

  /** Has the driver give an order, and waits for its end: what the mailbox says then. */
  async command(
    command: number,
    about: MailboxArguments,
  ): Promise<readonly [low: number, high: number]> {
    let result: readonly [number, number] = [0, 0];
    await vcpu.run(() => {
      qm.mailbox.run(command, about);
      if (about.get === true) result = qm.mailbox.result;
    });
    return result;
  }

  read(offset: number): Promise<number> {
    return this.readWord(qmBar, offset);
  }

  async write(offset: number, ...words: number[]): Promise<void> {
    const data = Uint32Array.from(words);
    await this.store(qmBar, offset, new Uint8Array(data.buffer));
  }
}
