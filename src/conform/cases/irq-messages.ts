/** Interrupts as messages, for a client that no eventfd reaches: an extension of this project's. */
import {
  deviceFeature,
  deviceReset,
  littleEndian,
  type RawRequest,
  regionWrite,
  setIrqs,
} from "../../client/raw-requests.ts";
import { FeatureFlags, IrqSetFlags, PciRegion } from "../../spec/vfio.ts";
import {
  HeaderFlags,
  Interrupt,
  MessageType,
  OwnCommand,
  OwnFeature,
  ownCapability,
} from "../../spec/vfio-user.ts";
import { casesOf } from "../case.ts";
import { type Context, ourCapabilities } from "../context.ts";
import { expectEqual, expectThat } from "../expect.ts";
import { isHello, known, type Offer, unsupported, vectors, vectorsOf } from "../offer.ts";
import { type Peer, viewOf } from "../peer.ts";

const { dataNone, dataEventfd, actionTrigger } = IrqSetFlags.mask;
const wire = actionTrigger | dataEventfd;
const fire = actionTrigger | dataNone;
/** Rings for vector 0. */
const ringOf = (offer: Offer): RawRequest =>
  isHello(offer)
    ? regionWrite(PciRegion.bar0, 0x08, littleEndian(1, 4))
    : regionWrite(PciRegion.bar0, 0x80, littleEndian(0, 4));

/** A client that proposes the extension, and what it hears: how often, by index and vector. */
interface Listener {
  readonly peer: Peer;
  /** What has come since the last look: `2.0 2.1`, or `2.0*3` for three of them. */
  heard(): string;
}

/** Null when this server does not agree on it. */
function agreed(context: Context): Listener | null {
  const peer = context.open({ ...ourCapabilities, [ownCapability]: { irq_messages: true } });
  if (!peer.server.limits.irqMessages) return null;
  const counts = new Map<string, number>();
  peer.intercept = (request) => {
    const { command, flags, payload } = request;
    expectEqual("command of the server", command, OwnCommand.interrupt);
    const wanted = MessageType.command | HeaderFlags.mask.noReply;
    expectEqual("flags of an interrupt, which nobody answers", flags, wanted);
    const whole = payload.length > 0 && payload.length % Interrupt.size === 0;
    expectThat(whole, "whole entries", `${payload.length} bytes`);
    for (let at = 0; at < payload.length; at += Interrupt.size) {
      const { index, vector, count } = Interrupt.get(viewOf(request), at);
      const name = `${index}.${vector}`;
      counts.set(name, (counts.get(name) ?? 0) + count);
    }
  };
  const heard = (): string => {
    const sorted = [...counts].sort(([a], [b]) => a.localeCompare(b));
    counts.clear();
    return sorted.map(([name, count]) => (count === 1 ? name : `${name}*${count}`)).join(" ");
  };
  return { peer, heard };
}

export const cases = casesOf(
  "irq-messages",
  "OwnCommand.interrupt (an extension)",
  [vectors(2)],
  [
    {
      id: "not-agreed",
      title: "a client that has not proposed the extension is sent none",
      run(context) {
        const peer = context.open();
        expectEqual("the extension's key", peer.server.limits.irqMessages, false);
        const { index } = vectorsOf(context.offer);
        const fds = [context.eventfd(), context.eventfd()];
        peer.done(setIrqs({ flags: wire, index, count: 2 }), 0, fds);
        peer.done(setIrqs({ flags: fire, index, count: 2 }), 0);
        const get = FeatureFlags.mask.get | OwnFeature.compatibility;
        peer.refused(deviceFeature(get, new Uint8Array(0), 4096), unsupported);
        peer.usable();
      },
    },
    {
      id: "raised",
      title: "vectors that are wired by a byte are told of, before the reply to what raised them",
      run(context) {
        const listener = agreed(context);
        if (listener === null) return;
        const { peer, heard } = listener;
        const { index } = vectorsOf(context.offer);
        peer.done(setIrqs({ flags: wire, index, count: 2 }, [1, 1]), 0);
        expectEqual("heard before", heard(), "");
        peer.done(setIrqs({ flags: fire, index, count: 2 }), 0);
        expectEqual("heard", heard(), `${index}.0 ${index}.1`);
        peer.done(setIrqs({ flags: fire, index, start: 1, count: 1 }), 0);
        expectEqual("heard then", heard(), `${index}.1`);
      },
    },
    {
      id: "taken-away",
      title: "a vector whose byte is 0, or an index that is switched off, is told of no more",
      run(context) {
        const listener = agreed(context);
        if (listener === null) return;
        const { peer, heard } = listener;
        const { index } = vectorsOf(context.offer);
        const fireBoth = () => peer.done(setIrqs({ flags: fire, index, count: 2 }), 0);
        peer.done(setIrqs({ flags: wire, index, count: 2 }, [1, 1]), 0);
        peer.done(setIrqs({ flags: wire, index, count: 2 }, [0, 1]), 0);
        fireBoth();
        expectEqual("heard of one", heard(), `${index}.1`);
        peer.done(setIrqs({ flags: wire, index, start: 1, count: 1 }), 0);
        fireBoth();
        expectEqual("heard of none", heard(), "");
        peer.done(setIrqs({ flags: wire, index, count: 2 }, [1, 1]), 0);
        peer.done(setIrqs({ flags: fire, index }), 0);
        fireBoth();
        expectEqual("heard of an index that is off", heard(), "");
      },
    },
    {
      id: "malformed",
      title:
        "descriptors, or another number of bytes than of vectors, are EINVAL and change nothing",
      run(context) {
        const listener = agreed(context);
        if (listener === null) return;
        const { peer, heard } = listener;
        const { index, count } = vectorsOf(context.offer);
        peer.done(setIrqs({ flags: wire, index, count: 2 }, [1, 0]), 0);
        const fd = context.eventfd();
        peer.refused(setIrqs({ flags: wire, index, count: 1 }, [0]), undefined, [fd]);
        peer.refused(setIrqs({ flags: wire, index, count: 2 }, [0]));
        peer.refused(setIrqs({ flags: wire, index, count: 1 }, [0, 0]));
        const beyond = Array.from({ length: count + 1 }, () => 0);
        peer.refused(setIrqs({ flags: wire, index, count: count + 1 }, beyond));
        peer.done(setIrqs({ flags: fire, index, count: 2 }), 0);
        expectEqual("heard", heard(), `${index}.0`);
      },
    },
    {
      id: "counted",
      title: "what is raised several times is counted, and none of it is lost over a reset",
      needs: [known],
      run(context) {
        const listener = agreed(context);
        if (listener === null) return;
        const { peer, heard } = listener;
        const { index } = vectorsOf(context.offer);
        peer.done(setIrqs({ flags: wire, index, count: 1 }, [1]), 0);
        const ring = ringOf(context.offer);
        const rings = 40;
        for (let i = 1; i < rings; i++) {
          peer.post(ring, [], { flags: MessageType.command | HeaderFlags.mask.noReply });
        }
        peer.done(ring);
        expectEqual("heard", heard(), `${index}.0*${rings}`);
        peer.done(deviceReset());
        peer.done(ring);
        expectEqual("heard after a reset", heard(), `${index}.0`);
      },
    },
  ],
);
