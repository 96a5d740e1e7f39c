/** What the demonstration and its processes say to each other. */
import type { Report } from "../../migration/hosts/report.ts";

/** Where one device of a host is reached. */
export interface Berth {
  /** For VMMs. */
  readonly socket: string;
  /** For the operator: the daemon's control socket. */
  readonly control: string;
  /** For other hosts: `tls://127.0.0.1:4711`. */
  readonly address: string;
}

/** A host with its devices, always in the same order. */
export interface HostPlan {
  /** The name in its certificate. */
  readonly name: string;
  /** The folder with the certificate. */
  readonly pki: string;
  readonly berths: readonly Berth[];
}

/** What the guest is told to do. */
export type GuestOrder =
  | { readonly op: "boot"; readonly host: HostPlan }
  | { readonly op: "move"; readonly from: HostPlan; readonly to: HostPlan }
  | { readonly op: "stop" };

/** How one device's move went. */
export interface DeviceMove {
  readonly device: string;
  /** What the source's daemon reported. */
  readonly report: Report;
  /** Pages of guest memory copied in all, and of these while the guest stood still. */
  readonly pages: number;
  readonly lastPages: number;
  /** From the last completion here to the first one there, in milliseconds. */
  readonly blackoutMs: number;
  /** Requests that were under way when the guest stopped. */
  readonly underWay: number;
}

/** What the guest has counted. */
export interface GuestCount {
  readonly device: string;
  /** Requests that it gave the device, numbered from 0. */
  readonly submitted: number;
  readonly operations: number;
  readonly wrong: number;
  /** Requests that never ended. */
  readonly lost: number;
  readonly firstError: string;
}

/** What the guest answers to an order, or why it could not do it. */
export type GuestAnswer =
  | { readonly kind: "booted"; readonly devices: readonly string[] }
  | { readonly kind: "moved"; readonly moves: readonly DeviceMove[] }
  | { readonly kind: "stopped"; readonly counts: readonly GuestCount[] }
  | { readonly kind: "failed"; readonly why: string };

/** Whom the attacker attacks, and from where. */
export interface AttackPlan {
  /** A VF of its own, in the victim's process. */
  readonly ownSocket: string;
  readonly victimSocket: string;
  /** Where the host takes devices in. */
  readonly migrationPort: number;
}

/** What the attacker is told: its plans for each host, where the guest is, and to stop. */
export type AttackOrder =
  | { readonly op: "attack"; readonly hosts: ReadonlyArray<readonly AttackPlan[]> }
  | { readonly op: "follow"; readonly host: number }
  | { readonly op: "stop" };

/** What the attacker tells when it is stopped. */
export interface AttackCount {
  readonly tried: number;
  readonly refused: number;
  /** Names of attacks that were not refused. */
  readonly succeeded: readonly string[];
  /** Each kind with how often it was tried. */
  readonly kinds: Readonly<Record<string, number>>;
}
