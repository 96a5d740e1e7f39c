import { FerryError, messageOf } from "../../base/errors.ts";
import type { Budgets } from "./budgets.ts";
import { type Clock, within } from "./clock.ts";
import { Conversation } from "./conversation.ts";
import type { Tell } from "./events.ts";
import type { Link } from "./link.ts";
import type { TargetFate } from "./target-verdict.ts";

/** What calling the other side needs. */
export interface Calling {
  readonly clock: Clock;
  readonly budgets: Budgets;
  readonly token: string;
  dial(): Promise<Link>;
}

/** What asking it again and again needs. */
export interface Asking extends Calling {
  readonly tell: Tell;
}

/** What the target has said, with the link on which it may be told that it was heard. */
export interface Answer {
  readonly fate: TargetFate;
  readonly sentence: string;
  readonly conversation: Conversation;
}

/** A link within its budget; one that comes later is closed. */
export async function connect(calling: Calling, cancel?: AbortSignal): Promise<Conversation> {
  const { clock, budgets } = calling;
  const dialled = calling.dial();
  try {
    const wait = { what: "connecting", budgetMs: budgets.connectMs, cancel };
    return new Conversation(await within(clock, wait, dialled), clock, budgets);
  } catch (thrown) {
    dialled.then(
      (link) => link.close(),
      () => {},
    );
    throw thrown;
  }
}

async function askOnce(asking: Asking): Promise<Answer> {
  const conversation = await connect(asking);
  try {
    await conversation.send({ say: "query", token: asking.token });
    const { fate, sentence } = await conversation.next(["answer"], asking.budgets.greetMs);
    if (fate === "undecided") throw new FerryError("undecided", sentence);
    return { fate, sentence, conversation };
  } catch (thrown) {
    conversation.close();
    throw thrown;
  }
}

/**
 * Asks the target what has become of the device, on a new link each time and at growing intervals,
 * until it has an answer or is told to stop, which is null.
 */
export async function askFate(
  asking: Asking,
  why: string,
  stop: AbortSignal,
): Promise<Answer | null> {
  const { clock, budgets, tell } = asking;
  let pauseMs = budgets.askFirstMs;
  let reason = why;
  for (let asked = 0; !stop.aborted; asked++) {
    tell({ kind: "undecided", why: reason, asked });
    await clock.sleep(pauseMs, stop);
    if (stop.aborted) break;
    pauseMs = Math.min(pauseMs * 2, budgets.askLastMs);
    try {
      return await askOnce(asking);
    } catch (thrown) {
      // Whatever it is, it decides nothing.
      reason = messageOf(thrown);
    }
  }
  return null;
}
