/** What the service manager that started a process is told of it, as `sd_notify` does. */
import { sendDatagram } from "../sys/unix.ts";

/** True when somebody wants to be told. */
export const isManaged = (): boolean => (process.env["NOTIFY_SOCKET"] ?? "") !== "";

/** Tells it; nothing happens where there is none, or when it does not listen. */
export function tellManager(...lines: readonly string[]): void {
  const path = process.env["NOTIFY_SOCKET"];
  if (path !== undefined && path !== "") sendDatagram(path, lines.join("\n"));
}
