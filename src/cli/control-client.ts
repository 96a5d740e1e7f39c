/** Asking a server's control socket: one line of JSON each way. */
import { connect } from "node:net";
import { FerryError } from "../base/errors.ts";

/** The longest answer that is read: a description of a device is some kilobytes. */
export const answerBytesMax = 4 * 1024 * 1024;

/** Where the control socket of a server is unless somebody says otherwise. */
export const controlPathOf = (socketPath: string): string => `${socketPath}.ctl`;

/** The answer's object, or a {@link FerryError} with what it says instead. */
function parseAnswer(path: string, line: string): unknown {
  let answer: unknown;
  try {
    answer = JSON.parse(line);
  } catch {
    throw new FerryError("bad-answer", `${path} answered with something that is not JSON.`);
  }
  const refused = (answer as { error?: unknown } | null)?.error;
  if (refused === undefined) return answer;
  throw new FerryError("control-refused", `${path} refused: ${String(refused)}.`);
}

/** Calls a method of the control socket at `path` and returns its answer. */
export async function askControl(
  path: string,
  request: { readonly method: string },
  timeoutMs: number,
): Promise<unknown> {
  const line = await new Promise<string>((resolve, reject) => {
    const fail = (why: string): void => {
      socket.destroy();
      reject(new FerryError("no-control", `the control socket ${path} ${why}.`));
    };
    const socket = connect(path, () => socket.write(`${JSON.stringify(request)}\n`));
    let text = "";
    socket.setEncoding("utf8");
    if (timeoutMs > 0) socket.setTimeout(timeoutMs, () => fail("did not answer in time"));
    socket.on("error", (error) => fail(`cannot be used: ${error.message}`));
    socket.on("end", () => fail("ended without an answer"));
    socket.on("data", (part: string) => {
      text += part;
      const end = text.indexOf("\n");
      if (end >= 0) {
        socket.destroy();
        resolve(text.slice(0, end));
      } else if (text.length > answerBytesMax) fail("answered without end");
    });
  });
  return parseAnswer(path, line);
}
