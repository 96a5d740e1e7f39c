/** Prepares the guests before any test, where its progress can be seen. */
import { prepare } from "./prepare.ts";
import { type GuestName, guestRecipes } from "./recipe.ts";
import { PrepareError } from "./run.ts";

export default async function setup(): Promise<void> {
  try {
    for (const name of Object.keys(guestRecipes) as GuestName[]) {
      const guest = await prepare(name);
      console.log(`vm: ${guest.emulatorVersion}, Linux ${guest.kernelRelease}`);
    }
  } catch (error) {
    // A stack trace of our own would only hide the sentence.
    if (error instanceof PrepareError) error.stack = error.message;
    throw error;
  }
}
