/** Writes decisions until there is no room, as a process of its own; says how many were taken. */
import { JournalFile } from "../../../src/host/journal-file.ts";

// The limit's signal would end the process before it could hear of the error.
process.on("SIGXFSZ", () => {});
const journal = await JournalFile.open(process.argv[2] ?? "");
let written = 0;
let refused = 0;
for (let n = 0; n < 12; n++) {
  const token = n.toString(16).padStart(32, "0");
  const record = { token, device: "fake", peer: "bob", address: "memory", pki: "", atMs: 1 };
  await journal.append({ ...record, decision: "deciding", by: "protocol" }).then(
    () => (written += 1),
    () => (refused += 1),
  );
}
console.log(JSON.stringify({ written, refused }));
