import { Header, HeaderFlags, MessageType } from "../spec/vfio-user.ts";
import type { Request } from "./request.ts";

/**
 * Completes the reply to the message at `at` of `view`: its payload is in place behind the header,
 * `result` bytes of it, or `result` is a negated errno.
 */
export function completeReply(request: Request, view: DataView, at: number, result: number): void {
  const { outbox } = request;
  const failed = result < 0;
  const payload = failed ? 0 : result;
  const lent = failed ? 0 : request.lentBytes;
  const out = outbox.view;
  const to = outbox.at;
  const size = Header.size + payload;
  out.setUint32(to, view.getUint32(at, true), true);
  out.setUint32(to + Header.offset.messageSize, size + lent, true);
  out.setUint32(
    to + Header.offset.flags,
    failed ? MessageType.reply | HeaderFlags.mask.error : MessageType.reply,
    true,
  );
  out.setUint32(to + Header.offset.error, failed ? -result : 0, true);
  const fds = failed ? null : request.replyFds;
  if (lent > 0) outbox.commitLent(size, request.lentAddress, lent);
  else if (fds !== null && fds.length <= request.peer.maxMsgFds) {
    outbox.commitWithFds(size, fds, request.replyFdsOwned);
  } else outbox.commit(size);
  request.replyFdsOwned = false;
}
