/** The two ends of a device that is served to another host: who offers it, and who relays it. */
import { FerryError } from "../../base/errors.ts";
import type { Host } from "../host.ts";
import type { DeviceSpec } from "../mail.ts";
import type { ServedDevice } from "../served-device.ts";
import { type Address, formatAddress, parseAddress } from "./address.ts";
import { Conduit } from "./conduit.ts";
import type { Listener } from "./listener.ts";
import { acceptTls, connectTls, readIdentity } from "./tls.ts";

/** Where another host is, with what proves who is who. */
export interface FarPlace {
  readonly address: string;
  /** The folder with this host's certificate. */
  readonly pki: string;
  /** The name that the other host must prove. */
  readonly peer?: string | undefined;
}

function tlsOf(text: string): Extract<Address, { kind: "tls" }> {
  const address = parseAddress(text);
  if (address.kind === "tls") return address;
  throw new FerryError("bad-argument", `${text} is on this host: write tls://HOST:PORT.`);
}

/** Serves a device to one named host besides whoever connects to its socket. */
export async function serveFar(
  host: Host,
  device: ServedDevice,
  place: FarPlace & { readonly peer: string },
  refused: (peer: string) => void,
): Promise<Listener> {
  return await acceptTls(tlsOf(place.address), readIdentity(place.pki), (names, socket) => {
    if (names.includes(place.peer)) {
      host.greet(new Conduit(socket).fd, device);
      return;
    }
    refused(names.join(", "));
    socket.destroy();
  });
}

/** A device that another host serves, on its way to a worker of this one. */
export interface FarDevice {
  readonly spec: DeviceSpec;
  readonly peer: string;
  /** Why there is no way to it any more. */
  readonly lost: Promise<string>;
}

/** Connects to the host that serves a device. */
export async function dialFar({ address, pki, peer: named }: FarPlace): Promise<FarDevice> {
  const place = tlsOf(address);
  const peer = named ?? place.host;
  const identity = readIdentity(pki);
  const conduit = await connectTls(place, peer, identity, (socket) => new Conduit(socket));
  const options = { fd: String(conduit.fd), peer };
  const name = `${peer}'s device at ${formatAddress(place)}`;
  return { spec: { name, module: "vfio-ferry/relay-device", options }, peer, lost: conduit.ended };
}
