import { errno, errnoName } from "../base/errno.ts";
import { FerryError } from "../base/errors.ts";
import { Command } from "../spec/vfio-user.ts";
import { closeFd } from "../sys/descriptors.ts";
import {
  formatVersion,
  type Limits,
  msgFdsMax,
  ourMinor,
  parseVersion,
  versionBytesMax,
} from "../wire/negotiate.ts";
import type { Connection } from "./connection.ts";
import { clientLimits } from "./connection-options.ts";

/** Why a server that was reached is of no use, as a sentence with the peer's name in it. */
function refused(connection: Connection, peer: string, result: number): FerryError {
  if (result === -errno.EBUSY) {
    return new FerryError("device-busy", `${peer} already serves another client (EBUSY).`);
  }
  if (result === -errno.ENOTCONN) {
    return new FerryError(
      "negotiation-failed",
      `${peer} ended the negotiation: ${connection.failure ?? "no reason given"}.`,
    );
  }
  if (result === -errno.ETIMEDOUT) {
    return new FerryError("no-answer", `${peer} did not answer VERSION in time.`);
  }
  return new FerryError(
    "negotiation-refused",
    `${peer} refused VERSION with ${errnoName(result)}.`,
  );
}

/** A small message would make many of one access of a VMM's, and each may take its time. */
const reachesRemote = ({ irqMessages, maxDataXferSize }: Limits): boolean =>
  irqMessages && maxDataXferSize >= clientLimits.maxDataXferSize;

/**
 * Agrees with the server on a version and on what either side can take, and takes the twin socket
 * when one was offered. A server that claims a twin socket without sending it is left at once.
 */
export function handshake(connection: Connection, peer: string, minor: number = ourMinor): void {
  const proposal = formatVersion(minor, connection.ours);
  const prepared = connection.prepare(proposal.length);
  if (prepared < 0) throw refused(connection, peer, prepared);
  connection.requestBytes.set(proposal, connection.requestAt);
  const length = connection.call(Command.version, proposal.length, versionBytesMax);
  if (length < 0) throw refused(connection, peer, length);
  const fds = connection.takeFds(msgFdsMax);
  const from = connection.replyAt;
  const answer = parseVersion(connection.replyBytes.subarray(from, from + length));
  const twin = typeof answer === "number" ? -1 : (fds[answer.twinFdIndex] ?? -1);
  const wanted = typeof answer !== "number" && connection.ours.twinSocket;
  for (const fd of fds) if (!wanted || fd !== twin) closeFd(fd);
  if (typeof answer === "number" || answer.minor > minor) {
    throw new FerryError(
      "negotiation-failed",
      `${peer} answered VERSION with what cannot be read.`,
    );
  }
  if (answer.limits.twinSocket && twin < 0) {
    throw new FerryError("twin-missing", `${peer} promised a twin socket and sent none.`);
  }
  const { irqMessages } = connection.ours;
  if (irqMessages && !reachesRemote(answer.limits)) {
    throw new FerryError("negotiation-failed", `${peer} serves no device to another host.`);
  }
  const precopyInfo = answer.limits.precopyInfo && connection.ours.precopyInfo;
  const maxMsgFds = irqMessages ? 0 : answer.limits.maxMsgFds;
  connection.server = { ...answer.limits, precopyInfo, irqMessages, maxMsgFds };
  connection.minor = answer.minor;
  if (wanted && twin >= 0) connection.adoptTwin(twin);
}
