import { FerryError } from "../../src/base/errors.ts";
import { Connection } from "../../src/client/connection.ts";
import type { ConnectionOptions } from "../../src/client/connection-options.ts";

const patienceMs = 20_000;
const pauseMs = 5;

/** Connects as soon as the server has let its last client go, which it does in its own time. */
export function connectWhenFree(path: string, options: ConnectionOptions = {}): Connection {
  const endMs = Date.now() + patienceMs;
  for (;;) {
    try {
      return Connection.connect(path, { timeoutMs: patienceMs, ...options });
    } catch (thrown) {
      const busy = thrown instanceof FerryError && thrown.code === "device-busy";
      if (!busy || Date.now() > endMs) throw thrown;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, pauseMs);
    }
  }
}
