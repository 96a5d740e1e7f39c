/** Certificates for hosts, as an operator makes them. */
import { X509Certificate } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { temporaryFolder } from "../support/ferry.ts";
import { ferry } from "./run.ts";

const folder = temporaryFolder();
afterAll(() => folder[Symbol.dispose]());
const at = (...parts: string[]): string => join(folder.path, ...parts);

describe("ferry pki", () => {
  it("makes an authority and a folder for each host", async () => {
    const { code, output } = await ferry("pki", at("pki"), "--host", "alice", "--host", "bob");
    expect(code).toBe(0);
    expect(output.trim().split("\n")).toEqual(
      ["alice", "bob"].map((h) => `${at("pki", h)}: copy it to that host and name it with --pki`),
    );
    const authority = new X509Certificate(readFileSync(at("pki", "ca.pem")));
    expect(authority.ca).toBe(true);
    for (const host of ["alice", "bob"]) {
      const cert = new X509Certificate(readFileSync(at("pki", host, "host.pem")));
      expect(cert.subjectAltName).toBe(`DNS:${host}`);
      expect(cert.verify(authority.publicKey)).toBe(true);
      expect(cert.ca).toBe(false);
      const years = (Date.parse(cert.validTo) - Date.now()) / (365 * 24 * 3600 * 1000);
      expect(Math.round(years)).toBe(1);
      expect(statSync(at("pki", host, "host.key")).mode & 0o777).toBe(0o600);
      expect(statSync(at("pki", host)).mode & 0o777).toBe(0o700);
    }
    expect(statSync(at("pki", "ca.key")).mode & 0o777).toBe(0o600);
  });

  it("adds a host to an authority that is there, and replaces none", async () => {
    const before = readFileSync(at("pki", "ca.pem"));
    const { code, output } = await ferry("pki", at("pki"), "--host", "carol", "--json");
    expect(code).toBe(0);
    expect(JSON.parse(output)).toEqual({ authority: at("pki"), hosts: [at("pki", "carol")] });
    expect(readFileSync(at("pki", "ca.pem"))).toEqual(before);
    const again = await ferry("pki", at("pki"), "--host", "carol");
    expect(again.code).toBe(2);
    expect(again.errors).toContain("is there already. Remove it to make a new one.");
  });

  it.each([
    [[], "name the hosts: --host alice --host bob."],
    [["--host", "../mallory"], "cannot name a host"],
    [["--host", "a b"], "cannot name a host"],
  ])("refuses %j with a sentence", async (args, sentence) => {
    const { code, errors } = await ferry("pki", at("others"), ...args);
    expect(code).toBe(2);
    expect(errors).toContain(sentence);
  });
});
