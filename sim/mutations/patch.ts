/** Puts a property in the place of a class's own; gives back how to undo that. */
export function replace(prototype: object, name: string, property: PropertyDescriptor): () => void {
  const before = Object.getOwnPropertyDescriptor(prototype, name) as PropertyDescriptor;
  Object.defineProperty(prototype, name, { configurable: true, ...property });
  return () => Object.defineProperty(prototype, name, before);
}

type Method<C, K extends keyof C> = C[K] extends (...given: infer G) => infer R
  ? (this: C, ...given: G) => R
  : never;

/** Puts a method in the place of a class's own, made from that one; likewise. */
export function wrap<C extends object, K extends keyof C & string>(
  { prototype }: { readonly prototype: C },
  name: K,
  make: (own: Method<C, K>) => Method<C, K>,
): () => void {
  return replace(prototype, name, { value: make(prototype[name] as Method<C, K>) });
}
