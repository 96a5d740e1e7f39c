/** What a guest in a process of its own is told to do, and what it answers. */
export type GuestOrder =
  /** Takes the device over and begins to work. */
  | { readonly op: "boot"; readonly socket: string }
  /** Connects to the other host's device, with memory of that host. */
  | { readonly op: "prepare"; readonly socket: string }
  | { readonly op: "copy" }
  /** The vCPUs stand still, with work under way. */
  | { readonly op: "stand" }
  /** They go on there, or here after all. */
  | { readonly op: "arrive" }
  | { readonly op: "stay" }
  /** Answered when so many more operations have ended. */
  | { readonly op: "work"; readonly operations: number }
  /** Begins nothing more and answers when nothing is under way. */
  | { readonly op: "drain" };

export interface GuestCount {
  readonly operations: number;
  readonly wrong: number;
  readonly firstError: string;
  readonly pending: number;
  /** Why the guest cannot go on: its device is gone, for instance. Empty when it can. */
  readonly trouble: string;
}
