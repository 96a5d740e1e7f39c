import type { Clock } from "../src/migration/hosts/clock.ts";

/** What never comes. A fresh one each time: a shared one would keep all that waits for it. */
export const never = (): Promise<never> => new Promise(() => {});

/**
 * A process of a host. Once it is dead nothing that it began goes on: whatever it waits for never
 * comes, and whatever it still asks for is not done.
 */
export class Process {
  alive = true;

  /** The outcome of something that the process waits for. */
  wait<T>(outcome: Promise<T>): Promise<T> {
    return outcome.then(
      (value) => (this.alive ? value : never()),
      (thrown: unknown) => (this.alive ? Promise.reject(thrown) : never()),
    );
  }

  /** A thing whose methods give promises, as this process sees it. */
  guard<T extends object>(thing: T): T {
    return new Proxy(thing, {
      get: (target, key) => {
        const value = Reflect.get(target, key) as unknown;
        if (typeof value !== "function") return value;
        return (...given: unknown[]) => {
          if (!this.alive) return never();
          const result = value.apply(target, given) as unknown;
          return result instanceof Promise ? this.wait(result) : result;
        };
      },
    });
  }

  /** The time, for this process: what it sleeps for never comes once it is dead. */
  clock(clock: Clock): Clock {
    return {
      now: () => clock.now(),
      wall: () => clock.wall(),
      after: (ms, act) => clock.after(ms, () => void (this.alive && act())),
      sleep: (ms, signal) => (this.alive ? this.wait(clock.sleep(ms, signal)) : never()),
    };
  }
}
