/** A promise that is looked at later, or not at all if something before it fails. */
export function handled<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}
