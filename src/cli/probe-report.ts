/** A probe's findings as text, in the manner of `lspci -vvv`. */
import type {
  CapabilityDescription,
  ConfigDescription,
  RegisterDescription,
} from "../device/config-description.ts";
import type {
  DeviceDescription,
  IrqDescription,
  RegionDescription,
} from "../device/description.ts";
import { PciExpressType } from "../spec/pci-capabilities.ts";
import type { Limits } from "../wire/negotiate.ts";

/** What the server agreed to; null where another client negotiated. */
export type Negotiation = Limits & { readonly version: string };
export type ProbeReport = DeviceDescription & { readonly negotiation: Negotiation | null };

const hex = (value: number, digits = 1): string => `0x${value.toString(16).padStart(digits, "0")}`;
const units = ["bytes", "KiB", "MiB", "GiB", "TiB"] as const;

/** A size as people say it, exact: `64 KiB`, `100 bytes`. */
function sizeText(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && value % 1024 === 0 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value} ${units[unit]}`;
}

function negotiationLines(negotiation: Negotiation | null): string[] {
  if (negotiation === null) return ["  (in use by another client; told by its control socket)"];
  const { version, maxMsgFds, maxDataXferSize, maxDmaMaps, pgsizes } = negotiation;
  const extras = [
    ...(negotiation.writeMultiple ? ["write_multiple"] : []),
    ...(negotiation.twinSocket ? ["twin_socket"] : []),
  ];
  const limits = [
    `max_msg_fds ${maxMsgFds}`,
    `max_data_xfer_size ${sizeText(maxDataXferSize)}`,
    `max_dma_maps ${maxDmaMaps}`,
    `pgsizes ${hex(pgsizes)}`,
  ];
  return [`  vfio-user ${version}: ${[...limits, ...extras].join(", ")}`];
}

function regionLine({ name, size, flags, mmapAreas }: RegionDescription): string {
  const areas = mmapAreas.map(({ offset, size: length }) => `${hex(offset)}+${hex(length)}`);
  const mapped = areas.length === 0 ? "" : `; maps ${areas.join(", ")}`;
  return `  region ${name}: ${sizeText(size)}, ${flags.join(" ") || "no access"}${mapped}`;
}

function irqLine({ name, count, flags }: IrqDescription): string {
  return `  irq ${name}: ${count} ${count === 1 ? "vector" : "vectors"}, ${flags.join(" ")}`;
}

/** What a register holds: its set fields by name, or its value. */
function registerText({ name, value, size, bits }: RegisterDescription): string {
  const set = Object.entries(bits ?? {})
    .filter(([, field]) => field !== false && field !== 0)
    .map(([field, held]) => (held === true ? field : `${field}=${held}`));
  const word = hex(value, size * 2);
  return `${name} ${word}${set.length === 0 ? "" : ` (${set.join(" ")})`}`;
}

type Fields = Readonly<Record<string, number | boolean>>;

/** Where a structure in a BAR lies; the register has its offset in units of 8. */
const barPlace = ({ bar, offset8 }: Fields): string => `bar${bar}+${hex(Number(offset8) * 8)}`;

/** What a capability comes to, from the fields of its registers. */
const summaries: Readonly<Record<string, (fields: (register: string) => Fields) => string[]>> = {
  powerManagement: (fields) => [`version ${fields("PMC")["version"]}`],
  pciExpress(fields) {
    const type = Number(fields("CAPABILITIES")["deviceType"]);
    const known = Object.entries(PciExpressType).find(([, value]) => value === type)?.[0];
    const resets = fields("DEVICE_CAPABILITIES")["functionLevelReset"] === true;
    return [known ?? `type ${type}`, ...(resets ? ["function level reset"] : [])];
  },
  msi(fields) {
    const control = fields("MESSAGE_CONTROL");
    const vectors = 2 ** Number(control["multipleMessageCapable"]);
    return [
      `${vectors} vectors`,
      ...(control["address64"] === true ? ["64-bit"] : []),
      ...(control["perVectorMasking"] === true ? ["maskable"] : []),
      control["enable"] === true ? "enabled" : "disabled",
    ];
  },
  msix: (fields) => [
    `${Number(fields("MESSAGE_CONTROL")["lastVector"]) + 1} vectors`,
    `table ${barPlace(fields("TABLE"))}`,
    `pending bits ${barPlace(fields("PENDING"))}`,
    fields("MESSAGE_CONTROL")["enable"] === true ? "enabled" : "disabled",
  ],
};

function summaryOf({ name, registers }: CapabilityDescription): string {
  const summary = summaries[name];
  if (summary === undefined || registers.length === 0) return "";
  const fields = (register: string): Fields =>
    registers.find((each) => each.name === register)?.bits ?? {};
  return `: ${summary(fields).join(", ")}`;
}

function capabilityLines(capability: CapabilityDescription): string[] {
  const { name, at, version, registers } = capability;
  const extended = version === null ? "" : ` v${version}`;
  const shown = registers.filter(({ name: register, value, bits }) => {
    const isHead = ["ID", "NEXT", "HEAD"].includes(register);
    return !isHead && (value !== 0 || bits !== undefined);
  });
  const place = hex(at, at < 0x100 ? 2 : 3);
  const head = `  capability ${place} ${name}${extended}${summaryOf(capability)}`;
  return [head, ...shown.map((register) => `    ${registerText(register)}`)];
}

/** The numbers that name a function, as `lspci -nn` writes them. */
function identityLine(header: readonly RegisterDescription[]): string {
  const value = (name: string): number => header.find((each) => each.name === name)?.value ?? 0;
  const digits = (name: string, count: number): string =>
    value(name).toString(16).padStart(count, "0");
  const id = `${digits("VENDOR_ID", 4)}:${digits("DEVICE_ID", 4)}`;
  const subsystem = `${digits("SUBSYSTEM_VENDOR_ID", 4)}:${digits("SUBSYSTEM_ID", 4)}`;
  const code = ["BASE_CLASS", "SUB_CLASS", "PROGRAMMING_INTERFACE"].map((name) => digits(name, 2));
  const revision = digits("REVISION_ID", 2);
  return `  device ${id} (rev ${revision}), class ${code.join("")}, subsystem ${subsystem}`;
}

const headerShown = ["COMMAND", "STATUS", "INTERRUPT_PIN", "INTERRUPT_LINE"];

function configLines(config: ConfigDescription | null): string[] {
  if (config === null) return ["  no configuration space that can be read"];
  const { header, capabilities, trouble } = config;
  const shown = header.filter(({ name, value }) => {
    return headerShown.includes(name) || (/^(BAR|EXPANSION)/.test(name) && value !== 0);
  });
  return [
    identityLine(header),
    ...shown.map((register) => `    ${registerText(register)}`),
    ...capabilities.flatMap(capabilityLines),
    ...(trouble === null ? [] : [`  the capabilities are broken: ${trouble}`]),
  ];
}

/** The whole report, many lines, without a line break at its end. */
export function renderReport(report: ProbeReport): string {
  const { name, flags, regions, irqs, config, migration, ioEventfds } = report;
  const state = migration?.state == null ? "" : `, now ${migration.state}`;
  const eventfds = ioEventfds?.map(({ region, offset, size, datamatch }) => {
    const match = datamatch === null ? "any value" : `value ${datamatch}`;
    return `  ioeventfd ${region}+${hex(offset)}: ${size} bytes, ${match}`;
  });
  return [
    `${name} (${flags.join(", ") || "no flags"})`,
    ...negotiationLines(report.negotiation),
    ...configLines(config),
    ...regions.map(regionLine),
    ...irqs.map(irqLine),
    ...(eventfds ?? []),
    migration === null
      ? "  migration: none"
      : `  migration: ${migration.flags.join(", ") || "no flags"}${state}`,
  ].join("\n");
}
