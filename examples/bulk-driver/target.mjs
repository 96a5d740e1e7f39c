// What a target does with what comes: pages go to the board at once, which is cleared before and,
// when the stream is given up, after; what is not on the board is kept until all of it is there.
import {
  BulkControlCommand,
  BulkFunctionState,
  bulkPageBytes,
  bulkZeroBytesMax,
  checkBulkFunction,
} from "vfio-ferry/devices/bulk";
import { headRoom } from "./control.mjs";
import { Board, checkPlace, checkShape, headOf, Kind, names, Place, Tail } from "./sections.mjs";

const { clear, load, zero, saveFunction, loadFunction } = BulkControlCommand;

export class Target {
  #control;
  #memoryBytes;
  #sections = 0;
  #function = null;
  /** Has the board been changed by what was accepted? */
  #changed = false;
  /** What `load` has replaced. */
  #before = null;

  /** @param {import("./control.mjs").Control} control */
  constructor(control, memoryBytes) {
    this.#control = control;
    this.#memoryBytes = memoryBytes;
  }

  /** Takes a section; a sentence when it makes no sense. */
  accept(section) {
    const { kind, optional, bytes } = section;
    if (names[kind] === undefined) {
      return optional ? null : `kind 0x${kind.toString(16)} is not known to the bulk driver`;
    }
    const said = this.#misplaced(kind) ?? checkShape(section) ?? this.#take(kind, bytes);
    if (said !== null) return `section ${this.#sections} (${names[kind]}): ${said}`;
    this.#sections += 1;
    return null;
  }

  #misplaced(kind) {
    if (this.#function !== null) return "it comes behind the function's state, which is the last";
    if ((this.#sections === 0) === (kind === Kind.board)) return null;
    return kind === Kind.board ? "there was one before" : "it comes before the board's";
  }

  #take(kind, bytes) {
    const view = headOf(bytes);
    if (kind === Kind.board) return this.#begin(Board.get(view, 0));
    if (kind === Kind.function) return this.#end(Tail.get(view, 0), bytes);
    const place = Place.get(view, 0);
    const said = checkPlace(place, this.#memoryBytes);
    if (said !== null) return said;
    return kind === Kind.zeroes ? this.#clear(place) : this.#load(place, bytes);
  }

  #begin({ memoryBytes, pageBytes, reserved }) {
    if (memoryBytes !== this.#memoryBytes) {
      return `memoryBytes is ${memoryBytes}, here it is ${this.#memoryBytes}`;
    }
    if (pageBytes !== bulkPageBytes) return `pageBytes is ${pageBytes}, not ${bulkPageBytes}`;
    if (reserved !== 0) return `reserved is ${reserved}, not 0`;
    this.#changed = true;
    return this.#run(clear, { offset: 0, length: 0 });
  }

  #load(place, bytes) {
    const there = bytes.length - Place.size;
    if (place.length !== there) return `length is ${place.length}, and ${there} bytes are there`;
    this.#control.piece(headRoom, there).bytes.set(bytes.subarray(Place.size));
    return this.#run(load, place);
  }

  #clear(place) {
    if (place.length <= bulkZeroBytesMax) return this.#run(zero, place);
    return `length is ${place.length}, more than ${bulkZeroBytesMax}`;
  }

  #end({ sections, reserved }, bytes) {
    if (sections !== this.#sections) return `sections is ${sections}, and there were others`;
    if (reserved !== 0) return `reserved is ${reserved}, not 0`;
    this.#function = bytes.slice(Tail.size);
    return null;
  }

  #run(command, { offset, length }) {
    const result = this.#control.run(command, offset, length);
    return result < 0 ? `the device refuses it (error ${-result})` : null;
  }

  /** Is everything there, and would the device take it? */
  check() {
    if (this.#sections === 0) return "no section board has come";
    if (this.#function === null) return "the section function has not come";
    return checkBulkFunction(this.#function, this.#memoryBytes)
      ? null
      : "section function: its state makes no sense on a board of this size";
  }

  get #staged() {
    return this.#control.piece(headRoom, BulkFunctionState.size).bytes;
  }

  #stage(state) {
    this.#staged.set(state);
  }

  /** Puts what was kept into the device; what is on the board is there already. */
  *load() {
    const saved = yield* this.#control.command(saveFunction);
    if (saved < 0) return saved;
    this.#before = this.#staged.slice();
    this.#stage(this.#function);
    const result = yield* this.#control.command(loadFunction);
    if (result === 0) this.#changed = false;
    return result;
  }

  /** The device is what it was, with nothing on the board. */
  *unload() {
    this.#changed = true;
    if (this.#before === null) return 0;
    this.#stage(this.#before);
    this.#before = null;
    return yield* this.#control.command(loadFunction);
  }

  discard() {
    if (this.#changed) this.#control.run(clear, 0, 0);
    this.forget();
  }

  forget() {
    this.#changed = false;
    this.#sections = 0;
    this.#function = null;
    this.#before = null;
  }
}
