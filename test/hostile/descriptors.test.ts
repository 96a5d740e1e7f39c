/** Descriptors in numbers and places that no client would send them in. */
import { writeSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { RawClient } from "../../src/client/raw-client.ts";
import {
  cut,
  deviceGetInfo,
  dmaMap,
  dmaUnmap,
  joined,
  message,
  proposal,
  regionIoFds,
  regionWrite,
  setIrqs,
} from "../../src/client/raw-requests.ts";
import { type Context, ourCapabilities, pause } from "../../src/conform/context.ts";
import type { Peer } from "../../src/conform/peer.ts";
import { IrqSet, IrqSetFlags, PciIrq } from "../../src/spec/vfio.ts";
import { Command, HeaderFlags } from "../../src/spec/vfio-user.ts";
import { closeFd, drainEventfd, signalEventfd } from "../../src/sys/descriptors.ts";
import { setNonBlocking, socketPair } from "../../src/sys/unix.ts";
import { anyRequest, patienceMs, survivor } from "./victim.ts";

const most = 253;
const allowed = 16;
const { actionTrigger, dataEventfd, dataBool, dataNone } = IrqSetFlags.mask;
const server = survivor("bench", ["--set", "stateMiB=1"]);

/** A socket end to give away, and the one that sees when the last copy was closed. */
function canary(context: Context): { here: RawClient; there: number } {
  const [here, there] = socketPair();
  return { here: context.keep(new RawClient(here)), there };
}

/** Sends copies of one descriptor, then expects the server to have closed them all. */
function expectClosed(context: Context, send: (fd: number) => void): void {
  const { here, there } = canary(context);
  send(there);
  closeFd(there);
  expect(here.hungUp(patienceMs), "every copy is closed").toBe(true);
}

const requests = [
  ["DEVICE_GET_INFO", deviceGetInfo()],
  ["DMA_MAP", dmaMap({ address: 0, size: 4096 })],
  [
    "DEVICE_SET_IRQS",
    setIrqs({ flags: actionTrigger | dataEventfd, index: PciIrq.msix, count: 1 }),
  ],
  ["REGION_WRITE", regionWrite(0, 0x1000, new Uint8Array(8))],
  ["REGION_READ", anyRequest()],
  ["an unknown command", { command: 999, payload: new Uint8Array(8) }],
  ["a second VERSION", proposal(ourCapabilities)],
] as const;

describe("too many at once", () => {
  it.each(requests)("with %s are refused and closed", (_, request) => {
    const context = server.victim.context();
    const peer = context.open();
    for (const count of [allowed + 1, 64, most]) {
      expectClosed(context, (fd) => {
        peer.refused(request, undefined, Array<number>(count).fill(fd));
      });
    }
    peer.usable();
  });

  it.each(requests)("with %s that wants no reply are closed", (_, request) => {
    const context = server.victim.context();
    const peer = context.open();
    expectClosed(context, (fd) => {
      const flags = HeaderFlags.mask.noReply;
      peer.post(request, Array<number>(most).fill(fd), { flags });
    });
    peer.usable();
  });

  it("with VERSION are closed, and the version is agreed or refused", () => {
    const context = server.victim.context();
    for (const count of [1, allowed, most]) {
      expectClosed(context, (fd) => {
        const client = context.connect();
        client.send(message(proposal({})), Array<number>(count).fill(fd));
        client.receive(patienceMs);
        client.close();
      });
    }
  });

  it("again and again do not add up", () => {
    const context = server.victim.context();
    const peer = context.open();
    const before = server.victim.openFds;
    for (let i = 0; i < 50; i++) {
      expectClosed(context, (fd) => {
        for (let n = 0; n < 10; n++) {
          peer.refused(deviceGetInfo(), undefined, Array<number>(most).fill(fd));
        }
      });
    }
    expect(server.victim.openFds).toBeLessThanOrEqual(before);
  });
});

describe("in odd places", () => {
  it("on every byte of a message split byte by byte are its own and too many", () => {
    const context = server.victim.context();
    const peer = context.open();
    const bytes = message(deviceGetInfo(), { messageId: 77 });
    expectClosed(context, (fd) => {
      for (const byte of bytes) peer.sendBytes(Uint8Array.of(byte), [fd]);
      peer.reply(Command.deviceGetInfo, 77);
    });
    peer.usable();
  });

  it("that come with the body are taken as if they had come with the header", () => {
    const context = server.victim.context();
    const peer = context.open();
    const guest = context.guest();
    const bytes = message(guest.map(), { messageId: 5 });
    for (const at of [1, 15, 16, 17, 40, bytes.length - 1]) {
      peer.sendBytes(bytes.subarray(0, at));
      pause(2);
      peer.sendBytes(bytes.subarray(at), [guest.fd]);
      peer.doneAs(Command.dmaMap, 5, 0);
      peer.done(dmaUnmap({ address: guest.iova, size: guest.size }));
    }
  });

  it("glued to the message in front or behind leave every reply in order", () => {
    const context = server.victim.context();
    const peer = context.open();
    const guest = context.guest();
    const info = message(deviceGetInfo(), { messageId: 1 });
    const map = message(guest.map(), { messageId: 2 });
    for (const stream of [joined(info, map), joined(map, info), joined(info, map, info)]) {
      peer.sendBytes(stream, [guest.fd]);
      const replies = stream.length > 90 ? 3 : 2;
      for (let i = 0; i < replies; i++) expect(peer.receive()).toBeTypeOf("object");
      peer.done(dmaUnmap({ address: guest.iova, size: guest.size }));
    }
    expectClosed(context, (fd) => {
      peer.sendBytes(joined(info, info, info), [fd, fd]);
      for (let i = 0; i < 3; i++) peer.reply(Command.deviceGetInfo, 1);
    });
  });

  it("in the body of a message that is too long are closed", () => {
    const context = server.victim.context();
    const peer = context.open();
    expectClosed(context, (fd) => {
      const bodyBytes = 2 * 1024 * 1024;
      const header = { command: Command.regionWrite, payload: new Uint8Array(0) };
      const id = peer.post(header, [fd], { messageSize: 16 + bodyBytes });
      peer.refusedAs(Command.regionWrite, id);
      const piece = new Uint8Array(bodyBytes / 16);
      for (let i = 0; i < 16; i++) peer.sendBytes(piece, [fd, fd]);
    });
    peer.usable();
  });

  it("with a header of impossible size are closed", () => {
    const context = server.victim.context();
    const peer = context.open();
    expectClosed(context, (fd) => {
      const header = { command: Command.dmaMap, payload: new Uint8Array(0) };
      peer.refusedAs(Command.dmaMap, peer.post(header, [fd, fd], { messageSize: 3 }));
    });
  });

  it("with a reply that answers nothing are closed", () => {
    const context = server.victim.context();
    const peer = context.open();
    for (const command of [Command.dmaRead, Command.dmaWrite, Command.deviceGetInfo]) {
      expectClosed(context, (fd) => {
        peer.post({ command, payload: new Uint8Array(16) }, [fd], { flags: 1 });
      });
    }
  });

  it("with requests that are malformed are closed", () => {
    const context = server.victim.context();
    const peer = context.open();
    for (const [, request] of requests) {
      expectClosed(context, (fd) => {
        const short = cut(request, Math.min(3, request.payload.length));
        peer.refused(short, undefined, [fd, fd, fd]);
      });
    }
  });

  it("more than one with DMA_MAP, or for interrupts that take none, are closed", () => {
    const context = server.victim.context();
    const peer = context.open();
    expectClosed(context, (fd) => {
      peer.ask(dmaMap({ address: 0, size: 4096 }), [fd, fd]);
    });
    expectClosed(context, (fd) => {
      const flags = actionTrigger | dataBool;
      peer.refused(setIrqs({ flags, index: PciIrq.msix, count: 2 }, [1, 1]), undefined, [fd, fd]);
    });
  });

  /** Assigns a descriptor to a vector and fires it so often that a socket is full. */
  function fireMuch(peer: Peer, fd: number): void {
    const index = PciIrq.msix;
    const flags = actionTrigger | dataEventfd;
    const reply = peer.ask(setIrqs({ flags, index, count: 1 }), [fd]);
    if ((reply.flags & HeaderFlags.mask.error) !== 0) return;
    const fire = message(setIrqs({ flags: actionTrigger | dataNone, index, count: 1 }), {
      flags: HeaderFlags.mask.noReply,
    });
    for (let i = 0; i < 40; i++) peer.sendBytes(joined(...Array<Uint8Array>(100).fill(fire)));
  }

  it.each(["a socket", "a file"])(
    "such as %s for an interrupt do not hold the server up",
    (what) => {
      const context = server.victim.context();
      const peer = context.open();
      const { there } = canary(context);
      fireMuch(peer, what === "a file" ? context.guest().fd : there);
      peer.usable();
      closeFd(there);
    },
  );

  it("such as the connection itself for an interrupt spoil only that connection", () => {
    const peer = server.victim.context().open();
    fireMuch(peer, peer.client.fd);
    peer.client.receive(100);
  });

  /** Fills an eventfd up to its brim, so that one more signal does not fit. */
  function fillUp(fd: number): void {
    writeSync(fd, Uint8Array.of(0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff));
  }

  it("such as an eventfd that is full and blocks do not hold the server up", () => {
    const context = server.victim.context();
    const peer = context.open();
    const fd = context.eventfd();
    fillUp(fd);
    setNonBlocking(fd, false);
    fireMuch(peer, fd);
    peer.usable();
  });

  it("such as an eventfd that is made to block once it is assigned hold up no other client", () => {
    const context = server.victim.context();
    const peer = context.open();
    const fd = context.eventfd();
    const index = PciIrq.msix;
    peer.done(setIrqs({ flags: actionTrigger | dataEventfd, index, count: 1 }), 0, [fd]);
    setNonBlocking(fd, false);
    fillUp(fd);
    const fire = setIrqs({ flags: actionTrigger | dataNone, index, count: 1 });
    peer.post(fire, [], { flags: HeaderFlags.mask.noReply });
    pause(20);
    peer.close();
  });

  it("such as an ioeventfd that the client drains and makes block hold up no other client", () => {
    const context = server.victim.context();
    const peer = context.open();
    const { ioFds } = server.victim.offer.regions[0] ?? { ioFds: 0 };
    expect(ioFds).toBeGreaterThan(0);
    const { fds } = peer.done(regionIoFds({ argsz: 16 + 40 * ioFds }));
    for (const fd of fds) {
      for (let i = 0; i < 500; i++) {
        setNonBlocking(fd, true);
        signalEventfd(fd);
        drainEventfd(fd);
        setNonBlocking(fd, false);
      }
    }
    peer.client.send(message(anyRequest()));
    peer.close();
  });
});

describe("of a client that dies", () => {
  it("with a message half sent are closed", () => {
    const context = server.victim.context();
    const bytes = message(dmaMap({ address: 0, size: 4096 }));
    for (const length of [1, 15, 16, 20, bytes.length - 1]) {
      expectClosed(context, (fd) => {
        const peer = context.open();
        peer.sendBytes(bytes.subarray(0, length), Array<number>(allowed).fill(fd));
        peer.close();
      });
    }
  });

  it("with many messages unread are closed", () => {
    const context = server.victim.context();
    expectClosed(context, (fd) => {
      const peer = context.open();
      for (let i = 0; i < 200; i++) {
        peer.client.send(message(setIrqs({ argsz: IrqSet.size })), [fd, fd, fd], 0);
      }
      peer.close();
    });
  });

  it("as eventfds of every vector are closed", () => {
    const context = server.victim.context();
    const peer = context.open();
    for (let start = 0; start < 32; start += allowed) {
      const fds = Array.from({ length: allowed }, () => context.eventfd());
      const flags = actionTrigger | dataEventfd;
      peer.done(setIrqs({ flags, index: PciIrq.msix, start, count: allowed }), 0, fds);
    }
    peer.close();
  });
});
