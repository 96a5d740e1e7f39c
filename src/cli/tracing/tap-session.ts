import { Command, Header, HeaderFlags, MessageType } from "../../spec/vfio-user.ts";
import { Channel } from "../../sys/channel.ts";
import { POLLIN, POLLOUT } from "../../sys/constants.ts";
import type { PollSet } from "../../sys/poll.ts";
import { socketPair } from "../../sys/unix.ts";
import { parseVersion } from "../../wire/negotiate.ts";
import type { SeenMessage } from "./message-meter.ts";
import { TapLane } from "./tap-lane.ts";
import type { MessageRecord } from "./trace-record.ts";

/** Who is told of a message: the socket and the way that it went. */
export type Witness = (
  socket: MessageRecord["socket"],
  to: MessageRecord["to"],
  message: SeenMessage,
) => void;

/** Places in a poll set that one session uses. */
export const placesPerSession = 4;

/** Two sockets with a lane each way between them. */
class Line {
  readonly client: Channel;
  readonly server: Channel;
  readonly toServer: TapLane;
  readonly toClient: TapLane;
  #clientPlace = -1;
  #serverPlace = -1;

  constructor(
    clientFd: number,
    serverFd: number,
    socket: MessageRecord["socket"],
    witness: Witness,
    holdFirst: boolean,
  ) {
    this.client = new Channel(clientFd);
    this.server = new Channel(serverFd);
    const seen =
      (to: MessageRecord["to"]) =>
      (message: SeenMessage): void =>
        witness(socket, to, message);
    this.toServer = new TapLane(this.client, this.server, seen("server"));
    this.toClient = new TapLane(this.server, this.client, seen("client"), holdFirst);
  }

  /** True when one side has ended and the other one has all that it said. */
  get isOver(): boolean {
    const { toServer, toClient } = this;
    return (
      (toServer.ended && toServer.isDrained) ||
      (toClient.ended && toClient.isDrained) ||
      (toServer.broken && toClient.broken)
    );
  }

  watch(poll: PollSet): void {
    this.#clientPlace = add(poll, this.client.fd, this.toServer, this.toClient);
    this.#serverPlace = add(poll, this.server.fd, this.toClient, this.toServer);
  }

  /** Moves what can be moved: out first, so that there is room. */
  step(poll: PollSet): void {
    const fromClient = poll.ready(this.#clientPlace) !== 0;
    const fromServer = poll.ready(this.#serverPlace) !== 0;
    if (fromServer) this.toServer.send();
    if (fromClient) this.toClient.send();
    if (fromClient && this.toServer.wantsInput) this.toServer.receive();
    if (fromServer && this.toClient.wantsInput) this.toClient.receive();
    this.toServer.send();
    this.toClient.send();
  }

  close(): void {
    this.toServer.close();
    this.toClient.close();
    this.client.close();
    this.server.close();
  }
}

/** A socket is in the set only while something is wanted of it: a hang-up would not let it wait. */
function add(poll: PollSet, fd: number, from: TapLane, to: TapLane): number {
  const events = (from.wantsInput ? POLLIN : 0) | (to.wantsOutput ? POLLOUT : 0);
  return poll.add(events === 0 ? -1 : fd, events);
}

/**
 * A client and a server with a witness between them. When the server gives the client a twin
 * socket, the client gets one of ours in its place, so the witness sees what goes over it too.
 */
export class TapSession {
  readonly number: number;
  readonly #witness: Witness;
  readonly #main: Line;
  #twin: Line | null = null;
  #negotiated = false;

  /** Takes both connected sockets over. */
  constructor(number: number, clientFd: number, serverFd: number, witness: Witness) {
    this.number = number;
    this.#witness = witness;
    this.#main = new Line(clientFd, serverFd, "main", this.#onMain.bind(this), true);
  }

  #onMain(socket: MessageRecord["socket"], to: MessageRecord["to"], message: SeenMessage): void {
    if (to === "client" && !this.#negotiated) {
      this.#negotiated = true;
      this.#interpose(message);
    }
    this.#witness(socket, to, message);
  }

  /** Puts a socket pair of ours between the ends of the twin socket that a VERSION reply offers. */
  #interpose({ bytes, fdCount }: SeenMessage): void {
    if (fdCount === 0 || bytes.length < Header.size) return;
    const header = Header.get(new DataView(bytes.buffer, bytes.byteOffset), 0);
    const isReply = (header.flags & HeaderFlags.mask.type) === MessageType.reply;
    if (header.command !== Command.version || !isReply) return;
    const answer = parseVersion(bytes.subarray(Header.size));
    if (typeof answer === "number" || answer.twinFdIndex < 0) return;
    const [forClient, ours] = socketPair();
    const serverFd = this.#main.toClient.exchangeFd(answer.twinFdIndex, forClient);
    if (serverFd >= 0) this.#twin = new Line(ours, serverFd, "twin", this.#witness, false);
    else for (const fd of [forClient, ours]) new Channel(fd).close();
  }

  get isOver(): boolean {
    return this.#main.isOver;
  }

  /** Adds the session's sockets to a set; `step` looks at them there. */
  watch(poll: PollSet): void {
    this.#main.watch(poll);
    this.#twin?.watch(poll);
  }

  step(poll: PollSet): void {
    const twin = this.#twin;
    this.#main.step(poll);
    twin?.step(poll);
    if (twin?.isOver) {
      twin.close();
      this.#twin = null;
    }
  }

  close(): void {
    this.#main.close();
    this.#twin?.close();
  }
}
