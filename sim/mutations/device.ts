/** Bugs in what is done to the device. */
import type { ControlParts } from "../../src/host/migration-control.ts";
import { defaultBudgets } from "../../src/migration/hosts/budgets.ts";
import type { MigrationPort } from "../../src/migration/port.ts";
import { MigState } from "../../src/spec/vfio.ts";
import type { Mutation } from "../mutation.ts";
import { overlay } from "../overlay.ts";

const does = (parts: ControlParts, changes: Partial<MigrationPort>): ControlParts => ({
  ...parts,
  port: overlay(parts.port, changes),
});

export const leavesHold: Mutation = {
  name: "leaves-hold",
  what: "an abort leaves the session on hold",
  host: (parts) => {
    let aborted = false;
    return does(parts, {
      abort: async () => {
        aborted = true;
        await parts.port.abort();
      },
      still: async (how) => {
        if (how !== "none" || !aborted) await parts.port.still(how);
        aborted = false;
      },
    });
  },
};

export const leavesHalf: Mutation = {
  name: "leaves-half",
  what: "a refusal leaves half of the state in the target's device",
  host: (parts) => {
    let receives = false;
    return does(parts, {
      move: async (to) => {
        if (to === MigState.resuming) receives = true;
        if (to === MigState.running) receives = false;
        return await parts.port.move(to);
      },
      reset: async () => {
        if (!receives) await parts.port.reset();
        receives = false;
      },
    });
  },
};

export const overlooksReset: Mutation = {
  name: "overlooks-reset",
  what: "the source overlooks that the guest has reset the device before it was sealed",
  host: (parts) =>
    does(parts, {
      status: async () => ({ ...(await parts.port.status()), resets: 0 }),
      seal: async (on) => await parts.port.seal(on, (await parts.port.status()).resets),
    }),
};

export const answersForGone: Mutation = {
  name: "answers-for-gone",
  what: "the source answers accesses for a device that has gone",
  host: (parts) => {
    let sealed = false;
    return does(parts, {
      seal: async (on, resets) => {
        sealed = on;
        return await parts.port.seal(on, resets);
      },
      reset: async () => {
        if (sealed) await parts.port.still("drop");
        await parts.port.reset();
      },
    });
  },
};

export const losesLoaded: Mutation = {
  name: "loses-loaded",
  what: "the target's VMM can reset a state away that is loaded",
  host: (parts) =>
    does(parts, {
      seal: async (on, resets) => {
        const loaded = (await parts.port.status()).state === MigState.stop;
        return loaded ? true : await parts.port.seal(on, resets);
      },
    }),
};

export const holdsTooLong: Mutation = {
  name: "holds-too-long",
  what: "the source holds running vCPUs for as long as its migration takes",
  host: (parts) => {
    const { clock } = parts;
    const after: typeof clock.after = (ms, act) =>
      ms === defaultBudgets.holdMs ? () => {} : clock.after(ms, act);
    return { ...parts, clock: overlay(clock, { after }) };
  },
};
