/** Queue numbers in the order that they came, each at most once. Nothing is allocated by use. */
export class QueueSet {
  readonly #numbers: Uint16Array;
  readonly #has: Uint8Array;
  #first = 0;
  #size = 0;

  constructor(queues: number) {
    this.#numbers = new Uint16Array(queues);
    this.#has = new Uint8Array(queues);
  }

  get size(): number {
    return this.#size;
  }

  /** Puts a queue at the end unless it is there. */
  add(queue: number): void {
    if (this.#has[queue] !== 0) return;
    this.#has[queue] = 1;
    this.#numbers[(this.#first + this.#size) % this.#numbers.length] = queue;
    this.#size += 1;
  }

  /** The first queue; -1 when there is none. */
  get first(): number {
    return this.#size === 0 ? -1 : (this.#numbers[this.#first] as number);
  }

  /** Takes the first queue out; -1 when there is none. */
  take(): number {
    const queue = this.first;
    if (queue < 0) return queue;
    this.#has[queue] = 0;
    this.#first = (this.#first + 1) % this.#numbers.length;
    this.#size -= 1;
    return queue;
  }

  clear(): void {
    this.#has.fill(0);
    this.#size = 0;
  }
}
