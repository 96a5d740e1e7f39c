/** What a driver does with streams that are not what a source has sent. */
import type { Section } from "../driver.ts";
import type { Rig } from "./rig.ts";
import { type ContractSubject, promise } from "./subject.ts";

const strangeKind = 0xfff0;
const cuts = [0, 1, 2, 5, 20] as const;

/** Numbers that look like chance and are the same every time (xorshift). */
class Numbers {
  #state = 0x2545f491;

  /** A number below `end`. */
  below(end: number): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x >>> 0;
    return end === 0 ? 0 : this.#state % end;
  }
}

type Stream = readonly Section[];

const replaced = (stream: Stream, at: number, ...sections: Section[]): Stream =>
  stream.toSpliced(at, 1, ...sections);

const at = (stream: Stream, place: number): Section => stream[place] as Section;

/** One to four bytes of one section are others. */
function mutated(stream: Stream, numbers: Numbers): Stream {
  const place = numbers.below(stream.length);
  const bytes = at(stream, place).bytes.slice();
  for (let count = numbers.below(4); count >= 0; count--) {
    if (bytes.length > 0) bytes[numbers.below(bytes.length)] = numbers.below(256);
  }
  return replaced(stream, place, { ...at(stream, place), bytes });
}

/** Fields at the start of a section become extremes. */
function extreme(stream: Stream, numbers: Numbers): Stream {
  const place = numbers.below(stream.length);
  const bytes = at(stream, place).bytes.slice();
  const start = 4 * numbers.below(Math.min(16, Math.floor(bytes.length / 4)));
  bytes.fill(numbers.below(2) === 0 ? 0xff : 0, start, start + 4 * (1 + numbers.below(2)));
  return replaced(stream, place, { ...at(stream, place), bytes });
}

/** A section that is shorter, or longer, than it was. */
function cut(stream: Stream, numbers: Numbers): Stream {
  const place = numbers.below(stream.length);
  const { bytes } = at(stream, place);
  const length = numbers.below(2) === 0 ? numbers.below(bytes.length) : bytes.length + 1;
  const other = new Uint8Array(length);
  other.set(bytes.subarray(0, length));
  return replaced(stream, place, { ...at(stream, place), bytes: other });
}

function reordered(stream: Stream, numbers: Numbers): Stream {
  const place = numbers.below(stream.length);
  const others = stream.toSpliced(place, 1);
  return others.toSpliced(numbers.below(stream.length), 0, at(stream, place));
}

function duplicated(stream: Stream, numbers: Numbers): Stream {
  const place = numbers.below(stream.length);
  return replaced(stream, place, at(stream, place), at(stream, place));
}

const truncated = (stream: Stream, numbers: Numbers): Stream =>
  stream.slice(0, numbers.below(stream.length));

const missing = (stream: Stream, numbers: Numbers): Stream =>
  stream.toSpliced(numbers.below(stream.length), 1);

const versioned = (stream: Stream, numbers: Numbers): Stream => {
  const place = numbers.below(stream.length);
  const version = at(stream, place).version + 1 + numbers.below(1000);
  return replaced(stream, place, { ...at(stream, place), version });
};

/** After a refusal the target is clean without a reset, and serves a guest. */
function checkRefused(target: Rig, said: string): void {
  const when = `after "${said}"`;
  target.start();
  target.use(when);
}

/** What was taken is loaded or undone; behind a reset the target serves a guest in any case. */
function checkTaken(target: Rig, source: ContractSubject): void {
  target.phase("load");
  target.subject.adopt?.(source);
  target.start();
  target.reset();
  target.use("that took a spoilt stream, after a reset");
}

/** Sends streams that were spoilt in one way. */
const spoilt =
  (spoil: (stream: Stream, numbers: Numbers) => Stream) => (source: Rig, fresh: () => Rig) => {
    source.subject.exercise();
    const stream = source.save();
    const numbers = new Numbers();
    for (let i = 0; i < source.limits.spoiltMax; i++) {
      const target = fresh();
      target.stop();
      const said = target.receive(spoil(stream, numbers));
      if (said === null) checkTaken(target, source.subject);
      else checkRefused(target, said);
    }
  };

const strange = (optional: boolean): Section => ({
  kind: strangeKind,
  version: 1,
  optional,
  bytes: Uint8Array.of(1, 2, 3),
  address: 0,
});

/** By what each promises; a case throws a breach. */
export const refusalCases: Readonly<Record<string, (rig: Rig, fresh: () => Rig) => void>> = {
  "no stream at all is refused": (target) => {
    target.stop();
    const said = target.receive([]);
    promise(said !== null, "check takes a stream without a section");
    checkRefused(target, said);
  },

  "a truncated stream is refused, or does no harm": spoilt(truncated),
  "a stream with a section less is refused, or does no harm": spoilt(missing),
  "a reordered stream is refused, or does no harm": spoilt(reordered),
  "a stream with a section twice is refused, or does no harm": spoilt(duplicated),
  "a section of another length is refused, or does no harm": spoilt(cut),
  "a section of another version is refused, or does no harm": spoilt(versioned),
  "a mutated stream is refused, or does no harm": spoilt(mutated),
  "a stream of extremes is refused, or does no harm": spoilt(extreme),

  "an unknown section is refused, unless it may be left out": (source, fresh) => {
    source.subject.exercise();
    const stream = source.save();
    for (const place of [0, stream.length >>> 1, stream.length]) {
      const target = fresh();
      target.stop();
      const said = target.receive(stream.toSpliced(place, 0, strange(false)));
      promise(said !== null, "a section that nobody knows is taken");
      checkRefused(target, said);
    }
    const target = fresh();
    target.resume(stream.toSpliced(stream.length - 1, 0, strange(true)), source.subject);
    target.verify("that was told what it may leave out");
  },

  "discard leaves a target clean, and what was loaded alone": (source, fresh) => {
    source.subject.exercise();
    const stream = source.save();
    for (let sections = 1; sections <= stream.length; sections++) {
      const target = fresh();
      target.stop();
      for (const each of stream.slice(0, sections)) target.driver.accept(each);
      target.start();
      target.use(`that was sent ${sections} of ${stream.length} sections`);
    }
    const target = fresh();
    target.stop();
    target.receive(stream);
    target.driver.discard();
    promise(target.driver.check() !== null, "check takes what was discarded");
    target.takeUp(stream, source.subject);
    target.verify("that was loaded at the second try");
  },

  "load can be cut off and undone": (source, fresh) => {
    source.subject.exercise();
    const stream = source.save();
    for (const turns of [...cuts, source.limits.turnsMax]) {
      const target = fresh();
      target.stop();
      promise(target.receive(stream) === null, "what was saved is refused");
      target.cut("load", turns);
      target.undo("load");
      target.start();
      target.use("whose load was undone");
    }
  },

  "a target that is reset forgets what came": (source, fresh) => {
    source.subject.exercise();
    const stream = source.save();
    const target = fresh();
    target.stop();
    for (const each of stream) target.driver.accept(each);
    target.reset();
    target.use("that was reset while a stream came");
    target.stop();
    promise(target.quietly("check", () => target.driver.check()) !== null, "check takes it still");
  },
};
