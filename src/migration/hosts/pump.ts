/** The stream between a device and a link: several pieces at once, in memory that is used again. */
import { handled } from "../../base/handled.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** Pieces that are on their way between a device and a link at most. */
export const piecesAhead = 4;
/** So many are asked for before it is known that there is much: most devices have less. */
const firstAhead = 2;

/** Where pieces come from and where they go. */
export interface Flow {
  /** Fills an array and gives it back, as `MigrationPort.read` does. */
  read(room: Bytes): Promise<Bytes>;
  /** Done when the next piece may be passed on. */
  admit?(): Promise<void>;
  /** Passes a piece on at once; done when its array may be used again. */
  pass(bytes: Bytes): Promise<void>;
}

/** A piece that is being passed on. */
interface Passing {
  readonly bytes: Bytes;
  readonly done: Promise<void>;
}

/** All of the array that a piece is part of. */
const whole = ({ buffer }: Bytes): Bytes => new Uint8Array(buffer);

/** Takes pieces from a device to a link. */
export class Pump {
  readonly #pieceBytes: number;
  readonly #rooms: Bytes[] = [];
  /** The first pieces, asked for before anybody takes them. */
  readonly #begun: Array<Promise<Bytes>> = [];

  constructor(pieceBytes: number) {
    this.#pieceBytes = pieceBytes;
    // It takes a while to get that much memory: by then a device may stand still.
    for (let i = 0; i < firstAhead; i++) this.#rooms.push(new Uint8Array(pieceBytes));
  }

  get #room(): Bytes {
    return this.#rooms.pop() ?? new Uint8Array(this.#pieceBytes);
  }

  /** Asks for the first pieces of what is going to be drained. */
  begin(read: Flow["read"]): void {
    for (let i = 0; i < firstAhead; i++) this.#begun.push(handled(read(this.#room)));
  }

  /**
   * Reads until the device has nothing more for now, and passes on what it reads, in order. Each
   * carrier has an array, and reads into it again as soon as its piece was passed on.
   */
  async drain({ read, admit, pass }: Flow): Promise<void> {
    const carriers: Array<Promise<void>> = [];
    let dry = false;
    let last: Promise<unknown> = Promise.resolve();

    const passNext = async (piece: Promise<Bytes>, before: Promise<unknown>): Promise<Passing> => {
      await before;
      const bytes = await piece;
      if (bytes.length === 0) dry = true;
      else await admit?.();
      return { bytes, done: bytes.length === 0 ? Promise.resolve() : pass(bytes) };
    };
    const carry = async (): Promise<void> => {
      let piece = this.#begun.shift() ?? handled(read(this.#room));
      for (;;) {
        const passing = passNext(piece, last);
        last = passing;
        const { bytes, done } = await passing;
        await done;
        if (bytes.length > this.#pieceBytes / 2) begin();
        if (dry) return void this.#rooms.push(whole(bytes));
        piece = handled(read(whole(bytes)));
      }
    };
    const begin = (): void => {
      if (carriers.length < piecesAhead) carriers.push(handled(carry()));
    };

    for (let i = 0; i < firstAhead; i++) begin();
    for (const each of carriers) await each;
  }
}

/** Writes pieces in order, some at once. */
export class Intake {
  readonly #write: (bytes: Bytes) => Promise<void>;
  readonly #under: Array<Promise<void>> = [];

  constructor(write: (bytes: Bytes) => Promise<void>) {
    this.#write = write;
  }

  /** Done when the next piece may come. */
  async put(bytes: Bytes): Promise<void> {
    if (this.#under.length >= piecesAhead) await this.#under.shift();
    this.#under.push(handled(this.#write(bytes)));
  }

  /** Done when everything is written. */
  async finish(): Promise<void> {
    while (this.#under.length > 0) await this.#under.shift();
  }
}
