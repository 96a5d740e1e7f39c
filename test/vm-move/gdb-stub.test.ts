import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { GdbStub, packet, packetBytesMax } from "../../src/vm/gdb-stub.ts";
import { temporaryFolder } from "../support/ferry.ts";

let folder: ReturnType<typeof temporaryFolder>;
let server: Server;
let stub: GdbStub;
let heard: string[];
/** What the other end answers to a packet. */
let answer: (body: string, socket: Socket) => void;

beforeEach(async () => {
  folder = temporaryFolder();
  heard = [];
  answer = (_, socket) => socket.write(`+${packet("OK")}`);
  const path = join(folder.path, "gdb");
  server = createServer((socket) => {
    socket.on("error", () => {});
    socket.setEncoding("latin1").on("data", (text: string) => {
      for (const [, body] of text.matchAll(/\$([^#]*)#../g)) {
        heard.push(body ?? "");
        answer(body ?? "", socket);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  stub = new GdbStub(connect(path));
});
afterEach(() => {
  stub.close();
  server.close();
  folder[Symbol.dispose]();
});

const saying = (text: string) => (_: string, socket: Socket) => void socket.write(text);

describe("a debugger's stub", () => {
  it("frames packets with the sum of their bytes", () => {
    expect(packet("OK")).toBe("$OK#9a");
    expect(packet("")).toBe("$#00");
  });

  it("writes values with accesses of their width, little end first, in order", async () => {
    await stub.usePhysicalMemory();
    await stub.run([
      { at: 0x40_1000_0010, size: 4, value: 0xfea0_0004 },
      { at: 0x40_1000_0004, size: 2, value: 0x406 },
      { at: 0x40_1000_003c, size: 1, value: 0x0a },
    ]);
    expect(heard).toEqual([
      "Qqemu.PhyMemMode:1",
      "M4010000010,4:0400a0fe",
      "M4010000004,2:0604",
      "M401000003c,1:0a",
    ]);
  });

  it("reads values, and what it says by itself is no answer", async () => {
    const replies: Record<string, string> = { "m10,4": "78563412", "m14,2": "cdab" };
    answer = (body, socket) => {
      socket.write(`+${packet("T05thread:01;")}${packet(replies[body] ?? "E01")}`);
    };
    const accesses = [
      { at: 0x10, size: 4 },
      { at: 0x14, size: 2 },
    ] as const;
    expect(await stub.run(accesses)).toEqual([0x1234_5678, 0xabcd]);
  });

  it("takes an answer in pieces", async () => {
    answer = (_, socket) => {
      socket.write("+$O");
      setTimeout(() => socket.write("K#9a"), 20);
    };
    await stub.usePhysicalMemory();
  });

  it.each([
    ["an error", packet("E14"), "did not write 0x10"],
    ["nothing", packet(""), "did not write 0x10"],
    ["a wrong sum", "$OK#00", "garbles what it says"],
    ["no end", "$".padEnd(packetBytesMax + 2, "a"), "a packet without end"],
  ])("that answers a write with %s ends it", async (_, said, sentence) => {
    answer = saying(said);
    await expect(stub.run([{ at: 0x10, size: 4, value: 1 }])).rejects.toThrow(sentence);
  });

  it.each(["E14", "1234", "zz345678", "1234567800"])(
    "that reads %s reads nothing",
    async (said) => {
      answer = saying(packet(said));
      await expect(stub.run([{ at: 0x10, size: 4 }])).rejects.toThrow("did not read 0x10");
    },
  );

  it("that is late is not asked again, for its answer would be to another question", async () => {
    answer = () => {};
    const late = new GdbStub(connect(join(folder.path, "gdb")), 10);
    await expect(late.usePhysicalMemory()).rejects.toThrow("the answer of the VMM's debugger stub");
    answer = (_, socket) => socket.write(packet("OK"));
    await expect(late.usePhysicalMemory()).rejects.toThrow("was late");
  });

  it("acknowledges the last of the replies, which stands for all", async () => {
    const said: string[] = [];
    const acknowledged = new Promise<void>((resolve) => {
      server.on("connection", (socket) => {
        socket.on("data", (text: string) => {
          said.push(text.replace(/\$[^#]*#../g, "$"));
          if (text.includes("+")) resolve();
        });
      });
    });
    const own = new GdbStub(connect(join(folder.path, "gdb")));
    const write = { at: 0x10, size: 4, value: 1 } as const;
    await own.run([write, write, write]);
    await acknowledged;
    expect(said.join("")).toBe("$$$+");
    own.close();
  });

  it("that answers more than it was asked is left, and nothing of it is kept", async () => {
    answer = (_, socket) => socket.write(packet("OK").repeat(3));
    await stub.usePhysicalMemory();
    await expect
      .poll(() => stub.usePhysicalMemory().catch(({ message }) => message))
      .toContain("says what nobody asked for");
  });

  it("that hangs up ends what waits", async () => {
    answer = (_, socket) => void socket.destroy();
    await expect(stub.usePhysicalMemory()).rejects.toThrow("has closed the connection");
  });
});
