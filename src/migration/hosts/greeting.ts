import { FerryError, messageOf } from "../../base/errors.ts";
import type { MigrationPort } from "../port.ts";
import { type Conversation, peerAborted, peerRefused } from "./conversation.ts";
import { protocolVersion } from "./link-messages.ts";
import { goOn } from "./phases.ts";
import { type Calling, connect } from "./reconcile.ts";

/** What is asked: to take the device, or only whether it would be taken. */
export type Purpose = "migrate" | "precheck";

/** Calls the target and asks whether it takes the device; a FerryError says why it does not. */
export async function greet(
  calling: Calling & { readonly port: MigrationPort },
  purpose: Purpose,
  cancel: AbortSignal,
): Promise<Conversation> {
  const { port, budgets, token } = calling;
  const compatibility = await port.compatibility();
  const talk = await connect(calling, cancel);
  const hello = { protocol: protocolVersion, token, device: port.name, compatibility, purpose };
  try {
    await talk.send({ say: "hello", ...hello });
    await talk.next(["accept"], budgets.greetMs, cancel);
    goOn(cancel);
    return talk;
  } catch (thrown) {
    const code = thrown instanceof FerryError ? thrown.code : "";
    // Nothing was decided here that anybody would ask for.
    if (code === peerRefused) await talk.mention({ say: "released", token });
    talk.close();
    if (code !== peerRefused && code !== peerAborted) throw thrown;
    throw new FerryError(peerRefused, `the target refuses ${port.name}: ${messageOf(thrown)}`);
  }
}
