/** Drivers of the tiny device that break one promise each. */
import type { Compatibility, Phase, Section, Step } from "../../../src/migration/driver.ts";
import { Kind, set, TinyDriver } from "./tiny.ts";

let counted = 0;

class ChangesItsMind extends TinyDriver {
  override get compatibility(): Compatibility {
    counted += 1;
    return { ...super.compatibility, facts: { counters: counted } };
  }
}

class JudgesNothing extends TinyDriver {
  override judge(): string | null {
    return null;
  }
}

class NeverFreezes extends TinyDriver {
  override readonly freeze: Phase = {
    budgetMs: 10,
    *run(): Step {
      for (;;) yield;
    },
    undo: () => this.pause(0),
  };
}

class StaysPaused extends TinyDriver {
  override readonly freeze: Phase = {
    budgetMs: 10,
    run: () => this.pause(1),
    undo: () => this.pause(1),
  };
}

class ForgetsWork extends TinyDriver {
  override *read(): Step {
    const result = yield* super.read();
    this.out[1]?.bytes.fill(0, 4, 8);
    return result;
  }
}

class NeverEnds extends TinyDriver {
  override next(): Section | null {
    const [first] = this.out;
    return first ?? null;
  }
}

class SendsTooMuch extends TinyDriver {
  override next(): Section | null {
    const next = super.next();
    return next?.kind === Kind.head ? { ...next, bytes: new Uint8Array(2 ** 20 + 1) } : next;
  }
}

class ReadsBeyond extends TinyDriver {
  override accept(section: Section): string | null {
    const { bytes } = section;
    new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint8(0);
    if (section.kind === Kind.state) {
      new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint32(8, true);
    }
    return super.accept(section);
  }
}

class TakesAnything extends TinyDriver {
  override accept(section: Section): string | null {
    return section.kind > Kind.state ? null : super.accept(section);
  }
}

class NeedsTheOptional extends TinyDriver {
  override accept(section: Section): string | null {
    return super.accept({ ...section, optional: false });
  }
}

class WritesAtOnce extends TinyDriver {
  override accept(section: Section): string | null {
    const said = super.accept(section);
    if (said === null && section.kind === Kind.state) set(this.control, "NAME", 1);
    return said;
  }
}

class KeepsWhatCame extends TinyDriver {
  override discard(): void {
    this.out = [];
  }
}

class LoadsInCheck extends TinyDriver {
  override check(): string | null {
    const said = super.check();
    if (said === null) set(this.control, "NAME", this.values()[0] as number);
    return said;
  }
}

class GruntsOnly extends TinyDriver {
  override check(): string | null {
    return super.check() === null ? null : "no";
  }
}

class UsesTheGuestsPlane extends TinyDriver {
  override *read(): Step {
    set(this.planes.guest, "NAME", 0x1234);
    return yield* super.read();
  }
}

class UndoesNoLoad extends TinyDriver {
  override readonly load: Phase = {
    budgetMs: 10,
    run: () => this.put(this.values()),
    undo: () => this.pause(1),
  };
}

class FailsToThaw extends TinyDriver {
  override readonly thaw: Phase = {
    budgetMs: 10,
    *run(): Step {
      yield;
      return -5;
    },
    undo: () => this.pause(1),
  };
}

class BelievesItIsPaused extends TinyDriver {
  #paused = false;

  override *pause(level: number): Step {
    if ((level === 1) !== this.#paused) set(this.control, "PAUSE", level);
    this.#paused = level === 1;
    yield;
    return 0;
  }
}

class AcceptsWithoutAnEnd extends TinyDriver {
  override check(): string | null {
    return null;
  }
}

/** Each with the case that must find it. */
export const broken = [
  [ChangesItsMind, "compatibility is always the same, and touches nothing"],
  [JudgesNothing, "judge takes its like and refuses every difference by a sentence"],
  [NeverFreezes, "freeze ends, and undone it leaves the device at work"],
  [StaysPaused, "thaw sets a device going that was merely stopped"],
  [ForgetsWork, "a state arrives, and both devices behave the same"],
  [NeverEnds, "next ends, and then has nothing"],
  [SendsTooMuch, "sections are the driver's own, within the limit, and lie where they say"],
  [ReadsBeyond, "a section of another length is refused, or does no harm"],
  [TakesAnything, "an unknown section is refused, unless it may be left out"],
  [NeedsTheOptional, "an unknown section is refused, unless it may be left out"],
  [WritesAtOnce, "discard leaves a target clean, and what was loaded alone"],
  [KeepsWhatCame, "discard leaves a target clean, and what was loaded alone"],
  [LoadsInCheck, "a state arrives, and both devices behave the same"],
  [GruntsOnly, "no stream at all is refused"],
  [UsesTheGuestsPlane, "the guest's plane is not touched"],
  [UndoesNoLoad, "load can be cut off and undone"],
  [FailsToThaw, "thaw sets a device going that was merely stopped"],
  [BelievesItIsPaused, "a reset in any phase leaves a clean device that can be migrated"],
  [AcceptsWithoutAnEnd, "no stream at all is refused"],
] as const;
