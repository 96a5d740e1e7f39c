// What a source gives out: the board as it changes, and at last what is not on the board.
import { errno } from "vfio-ferry";
import { BulkControlCommand, BulkFunctionState, bulkPageBytes } from "vfio-ferry/devices/bulk";
import { headRoom } from "./control.mjs";
import { Board, headOf, Kind, Place, pagesMax, section, Tail } from "./sections.mjs";

export class Source {
  #control;
  #memoryBytes;
  #sections = 0;
  /** Pages of the first pass that were not given out yet. */
  #firstPages = 0;
  /** The function's state once the device stands still; null before, and when it was given out. */
  #function = null;

  /** @param {import("./control.mjs").Control} control */
  constructor(control, memoryBytes) {
    this.#control = control;
    this.#memoryBytes = memoryBytes;
  }

  get tracking() {
    return this.#control.get("TRACKING") === 1;
  }

  /** Begins: all that is not known to be zero is to be sent. */
  begin() {
    this.#control.set("TRACKING", 1);
    this.#sections = 0;
    this.#function = null;
    this.#firstPages = this.#control.get("DIRTY_PAGES");
  }

  end() {
    if (this.tracking) this.#control.set("TRACKING", 0);
    this.#function = null;
  }

  /** Reads what is not on the board. */
  *save() {
    const result = yield* this.#control.command(BulkControlCommand.saveFunction);
    if (result < 0) return result;
    const { bytes } = this.#control.piece(headRoom, BulkFunctionState.size);
    this.#function = bytes.slice();
    return 0;
  }

  /** It was not the end after all. */
  unsave() {
    this.#function = null;
  }

  get pending() {
    const dirty = this.tracking ? this.#control.get("DIRTY_PAGES") : 0;
    const initial = Math.min(dirty, this.#firstPages);
    return {
      initialBytes: initial * bulkPageBytes,
      dirtyBytes: (dirty - initial) * bulkPageBytes,
    };
  }

  get stopCopyBytes() {
    const board = this.tracking
      ? this.#control.get("DIRTY_PAGES") * bulkPageBytes
      : this.#memoryBytes;
    return Board.size + board + Tail.size + BulkFunctionState.size;
  }

  /** The next section; null when there is nothing new, or nothing more. */
  next() {
    const made = this.#sections === 0 ? this.#board() : (this.#pages() ?? this.#last());
    if (made !== null) this.#sections += 1;
    return made;
  }

  #board() {
    if (!this.tracking) return null;
    const bytes = new Uint8Array(Board.size);
    const board = { memoryBytes: this.#memoryBytes, pageBytes: bulkPageBytes, reserved: 0 };
    Board.set(headOf(bytes), 0, board);
    return section(Kind.board, { bytes });
  }

  #pages() {
    const control = this.#control;
    control.turn();
    const result = control.run(BulkControlCommand.take, 0, pagesMax * bulkPageBytes);
    if (result < 0) {
      // Anything else than "no page has changed" leaves pages behind, which must not be hidden.
      if (result !== -errno.ENOENT) this.#function = null;
      return null;
    }
    const place = { offset: control.get("BOARD_OFFSET"), length: control.get("LENGTH") };
    const zero = control.get("ZERO") === 1;
    this.#firstPages = Math.max(0, this.#firstPages - place.length / bulkPageBytes);
    const piece = control.piece(headRoom - Place.size, Place.size + (zero ? 0 : place.length));
    Place.set(headOf(piece.bytes), 0, place);
    return section(zero ? Kind.zeroes : Kind.pages, piece);
  }

  /** Once the device stands still and there are no more pages. */
  #last() {
    if (this.#function === null) return null;
    const bytes = new Uint8Array(Tail.size + BulkFunctionState.size);
    Tail.set(headOf(bytes), 0, { sections: this.#sections, reserved: 0 });
    bytes.set(this.#function, Tail.size);
    this.#function = null;
    return section(Kind.function, { bytes });
  }
}
