import { assert } from "../base/assert.ts";
import { Arena } from "./arena.ts";
import { SIGURG } from "./constants.ts";
import { gettid, sigaction, symbolAddress, tgkill } from "./libc.ts";

const actionBytes = 152;

/**
 * Makes SIGURG end a blocking system call with EINTR. The handler is a harmless function of the C
 * library, because JavaScript cannot run in a signal handler, and it is installed without
 * SA_RESTART, because a restarted call would not return. Once for the process.
 */
export function installWake(signal: number = SIGURG): void {
  const action = new Arena(actionBytes);
  const handler = symbolAddress("getppid");
  action.view.setBigUint64(0, BigInt(handler), true);
  const result = sigaction(signal, action.address, 0);
  assert(result === 0, `sigaction failed with ${result}`);
  action.free();
}

/** The calling thread's id, to be woken by. */
export const threadId = (): number => gettid();

/** Ends the blocking call that the thread is in, if it is in one. */
export function wake(thread: number): void {
  tgkill(process.pid, thread, SIGURG);
}
