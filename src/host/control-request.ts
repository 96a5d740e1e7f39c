import { FerryError } from "../base/errors.ts";
import * as s from "../migration/hosts/shapes.ts";

/** What a method of a control socket takes, by a table; a FerryError names what does not fit. */
export function readFields<S extends s.Fields>(
  method: string,
  fields: S,
  request: object,
): s.ReadFields<S> {
  const read = s.object(fields)(request);
  if (read !== undefined) return read;
  const field = s.misfit(fields, request);
  throw new FerryError("bad-argument", `${method}: ${field} is missing or makes no sense.`);
}
