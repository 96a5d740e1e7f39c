import { cut, deviceFeature } from "../../client/raw-requests.ts";
import {
  DeviceFeature,
  Feature,
  FeatureFlags,
  FeatureMigration,
  MigrationFlags,
} from "../../spec/vfio.ts";
import { casesOf } from "../case.ts";
import { expectBytes, expectEqual } from "../expect.ts";
import { migrates, unsupported } from "../offer.ts";
import { viewOf } from "../peer.ts";

const { get, set, probe } = FeatureFlags.mask;
const none = new Uint8Array(0);
const full = DeviceFeature.size + FeatureMigration.size;

export const cases = casesOf(
  "device-feature",
  "VFIO_USER_DEVICE_FEATURE",
  [],
  [
    {
      id: "short",
      title: "a payload or an argsz below 8 bytes is EINVAL",
      run(context) {
        const peer = context.open();
        for (const length of [1, 4, 7]) {
          peer.refused(cut(deviceFeature(probe | Feature.migration), length));
        }
        peer.refused(deviceFeature(probe | Feature.migration, none, 2));
        peer.usable();
      },
    },
    {
      id: "unknown",
      title: "a feature that nobody knows is refused, asked for or probed",
      run(context) {
        const peer = context.open();
        for (const feature of [0x7fff, 0xffff, 200]) {
          for (const flags of [get, probe, probe | get]) {
            peer.refused(deviceFeature(flags | feature, none, 64), unsupported);
          }
        }
        peer.usable();
      },
    },
    {
      id: "one-operation",
      title: "GET and SET together, or neither without PROBE, is EINVAL",
      needs: [migrates],
      run(context) {
        const peer = context.open();
        for (const flags of [get | set, 0]) {
          const request = deviceFeature(flags | Feature.migDeviceState, new Uint8Array(8), 16);
          peer.refused(request);
        }
        peer.usable();
      },
    },
    {
      id: "probe",
      title: "a probe of what is there is answered with the request itself",
      needs: [migrates],
      run(context) {
        const peer = context.open();
        for (const flags of [probe, probe | get]) {
          const request = deviceFeature(flags | Feature.migration);
          const reply = peer.done(request, DeviceFeature.size);
          expectBytes("reply", reply.payload, request.payload);
        }
        const both = deviceFeature(probe | get | set | Feature.migDeviceState);
        expectBytes("reply", peer.done(both).payload, both.payload);
      },
    },
    {
      id: "probe-operations",
      title: "a probe succeeds only when every operation it names is there",
      needs: [migrates],
      run(context) {
        const peer = context.open();
        peer.refused(deviceFeature(probe | get | set | Feature.migration));
        peer.refused(deviceFeature(probe | set | Feature.migration));
        peer.usable();
      },
    },
    {
      id: "no-set",
      title: "MIGRATION cannot be set",
      needs: [migrates],
      run(context) {
        const peer = context.open();
        peer.refused(deviceFeature(set | Feature.migration, new Uint8Array(8)));
        peer.usable();
      },
    },
    {
      id: "migration",
      section: "VFIO_DEVICE_FEATURE_MIGRATION",
      title: "a device that migrates says STOP_COPY, and only states that there are",
      needs: [migrates],
      run(context) {
        const peer = context.open();
        for (const argsz of [full, 64]) {
          const reply = peer.done(deviceFeature(get | Feature.migration, none, argsz), full);
          const view = viewOf(reply);
          expectEqual("argsz", DeviceFeature.get(view, 0).argsz, full);
          expectEqual("flags", DeviceFeature.get(view, 0).flags, get | Feature.migration);
          const { flags } = FeatureMigration.get(view, DeviceFeature.size);
          const { stopCopy } = MigrationFlags.mask;
          expectEqual("STOP_COPY", flags & stopCopy, stopCopy);
          expectEqual("unknown states", flags & ~MigrationFlags.all, 0);
        }
      },
    },
    {
      id: "argsz",
      section: "Message sizes",
      title: "an argsz below what the answer or the data needs is EINVAL",
      needs: [migrates],
      run(context) {
        const peer = context.open();
        peer.refused(deviceFeature(get | Feature.migration, none, DeviceFeature.size));
        peer.refused(deviceFeature(get | Feature.migration, none, full - 1));
        peer.refused(deviceFeature(get | Feature.migDeviceState, none, full - 1));
        const running = Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0);
        peer.refused(deviceFeature(set | Feature.migDeviceState, running, DeviceFeature.size));
        peer.usable();
      },
    },
    {
      id: "short-data",
      title: "a SET whose data is cut short is EINVAL",
      needs: [migrates],
      run(context) {
        const peer = context.open();
        for (const length of [0, 1, 4, 7]) {
          const request = deviceFeature(
            set | Feature.migDeviceState,
            new Uint8Array(length).fill(1),
            64,
          );
          peer.refused(request);
        }
        peer.usable();
      },
    },
  ],
);
