/** All that a VM moves over, led through this process: the link of a device, and that of memory. */
import type { ControlRequest } from "../../src/host/control-line.ts";
import { ControlRelay } from "./control-relay.ts";
import { LinkRelay } from "./link-relay.ts";

/** Of what a VMM is told, what begins to send its VM. */
interface Command {
  readonly execute?: string;
  readonly arguments?: { readonly uri?: string };
}

const pathOf = (address: string): string => address.slice("unix:".length);

export class Links {
  /** Of the device. */
  readonly number: number;
  readonly device: LinkRelay;
  readonly memory: LinkRelay;
  /** Where to ask the source's server, and its QEMU, for it to go this way. */
  readonly control: string;
  readonly monitor: string;
  readonly #asking: ReadonlyArray<{ close(): void }>;

  /** They are sockets whose paths begin with `path`; `control` and `monitor` are the source's. */
  constructor(path: string, number: number, control: string, monitor: string) {
    let [device, memory] = ["", ""];
    this.number = number;
    this.device = new LinkRelay(`${path}.link`, () => pathOf(device));
    this.memory = new LinkRelay(`${path}.ram`, () => pathOf(memory));
    this.control = `${path}.control`;
    this.monitor = `${path}.monitor`;
    const send = async (question: ControlRequest): Promise<ControlRequest> => {
      if (question.method !== "migrate") return question;
      device = String(question["to"]);
      return { ...question, to: `unix:${this.device.path}` };
    };
    const migrate = async (command: Command): Promise<Command> => {
      if (command.execute !== "migrate") return command;
      memory = command.arguments?.uri ?? "";
      return { ...command, arguments: { uri: `unix:${this.memory.path}` } };
    };
    this.#asking = [
      new ControlRelay(this.control, control, send),
      new ControlRelay(this.monitor, monitor, migrate),
    ];
  }

  close(): void {
    for (const each of [...this.#asking, this.device, this.memory]) each.close();
  }
}
