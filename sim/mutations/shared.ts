/** Bugs in code that all hosts share. */
import { Offers } from "../../src/migration/hosts/offers.ts";
import { StreamReader } from "../../src/migration/stream-reader.ts";
import type { Mutation } from "../mutation.ts";
import { replace } from "./patch.ts";

export const takesTokenTwice: Mutation = {
  name: "takes-token-twice",
  what: "a token is good as often as somebody says it",
  patch: () =>
    replace(Offers.prototype, "take", {
      value(this: Offers, token: string, names: readonly string[]) {
        return this.find(token, names);
      },
    }),
};

export const believesAnyEnd: Mutation = {
  name: "believes-any-end",
  what: "nobody looks whether a stream has come to its end",
  patch: () =>
    replace(StreamReader.prototype, "shortcoming", {
      get(this: StreamReader) {
        return this.refusal;
      },
    }),
};
