/** A thing with some of its methods changed: the others, and its fields, are its own. */
export function overlay<T extends object>(thing: T, changes: Partial<T>): T {
  return new Proxy(thing, {
    get: (target, key) => {
      if (Object.hasOwn(changes, key)) return Reflect.get(changes, key) as unknown;
      const value = Reflect.get(target, key) as unknown;
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
