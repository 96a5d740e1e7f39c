/**
 * What no guest may notice, far above what is measured: these say that a move is still one, on
 * whatever machine, and nothing of its speed, which bench/ has.
 */

/**
 * How long accesses may wait for a device that changes its server: QEMU takes one for lost that
 * does not answer for 5 s, and the server gives up after 2 s.
 */
export const heldMsMax = 1500;
/** How long no vCPU may run: a guest's connections and watchdogs bear a few seconds. */
export const blackoutMsMax = 5000;
