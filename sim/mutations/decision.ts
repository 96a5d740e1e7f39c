/** Bugs in what is written down, and when. */
import type { ControlParts } from "../../src/host/migration-control.ts";
import type { Journal } from "../../src/migration/hosts/journal.ts";
import type { Frame } from "../../src/migration/hosts/link.ts";
import { decode, encode } from "../../src/migration/hosts/link-messages.ts";
import { MigState } from "../../src/spec/vfio.ts";
import type { Mutation } from "../mutation.ts";
import { overlay } from "../overlay.ts";
import { dials, listens } from "./links.ts";

const writes = (parts: ControlParts, append: Journal["append"]): ControlParts => ({
  ...parts,
  journal: overlay(parts.journal, { append }),
});

export const forgetsDeciding: Mutation = {
  name: "forgets-deciding",
  what: "the source says COMMIT and has not written that it is deciding",
  host: (parts) =>
    writes(parts, async (record) => {
      if (record.decision !== "deciding") await parts.journal.append(record);
    }),
};

export const ownsTooEarly: Mutation = {
  name: "owns-too-early",
  what: "the target says OWN before it has durably written it",
  host: (parts) =>
    writes(parts, async (record) => {
      const written = parts.journal.append(record);
      if (record.decision !== "own") return await written;
      written.catch(() => {});
    }),
};

export const resumesWhenCut: Mutation = {
  name: "resumes-when-cut",
  what: "the source goes on when the link is lost behind its COMMIT",
  host: (parts) =>
    dials(parts, (link) => {
      let committed = false;
      const resume = async (): Promise<void> => {
        await parts.port.seal(false, 0);
        await parts.port.abort();
        await parts.port.still("none");
      };
      return overlay(link, {
        send: async (frame) => {
          committed ||= decode(frame)?.say === "commit";
          await link.send(frame);
        },
        receive: async () => {
          const frame = await link.receive();
          if (frame === null && committed) await resume();
          return frame;
        },
      });
    }),
};

export const thawsTooEarly: Mutation = {
  name: "thaws-too-early",
  what: "the target sets the device going when it says VALIDATED",
  host: (parts) =>
    listens(parts, (link) =>
      overlay(link, {
        send: async (frame) => {
          await link.send(frame);
          if (decode(frame)?.say !== "validated") return;
          await parts.port.move(MigState.running);
          await parts.port.still("none");
        },
      }),
    ),
};

/** What the mutation waits for a COMMIT; the target waits longer. */
const patienceMs = 2000;

export const takesSilenceForCommit: Mutation = {
  name: "takes-silence-for-commit",
  what: "the target takes it for a COMMIT when none comes in time",
  host: (parts) =>
    listens(parts, (link) => {
      let token = "";
      let late: Promise<"late"> | null = null;
      let coming: Promise<Frame | null> | null = null;
      return overlay(link, {
        send: async (frame) => {
          const says = decode(frame)?.say;
          if (says === "validated") late = parts.clock.sleep(patienceMs).then(() => "late");
          await link.send(frame);
        },
        receive: async () => {
          coming ??= link.receive();
          const frame = await (late === null ? coming : Promise.race([coming, late]));
          if (frame === "late") {
            late = null;
            return encode({ say: "commit", token });
          }
          coming = null;
          const message = frame === null ? null : decode(frame);
          if (message?.say === "hello") token = message.token;
          if (message?.say === "commit" || frame === null) late = null;
          return frame;
        },
      });
    }),
};
