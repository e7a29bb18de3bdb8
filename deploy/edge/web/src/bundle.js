// Bundles as serving/edge/bundle.py reads them: nothing is interpreted before its signature is found good.
import { BundleRefused } from "./errors.js";

export const RUNTIME_VERSION = "0.1.0";
const FORMAT = 1;
const REQUIRED = ["manifest.json", "manifest.sig", "recogniser.tflite", "catalogue.json", "embeddings.i8", "scales.f4", "thresholds.json"];
const OPTIONAL = [
  ...["probes.json", "centroids.f4", "clusters.i4"],
  ...["scorer.tflite", "scorer.json", "scorer.vocabularies", "scorer.embeddings.f4", "scorer.words.f4"],
];
const [END, ENTRY, LOCAL] = [
  { mark: 0x06054b50, bytes: 22 },
  { mark: 0x02014b50, bytes: 46 },
  { mark: 0x04034b50, bytes: 30 },
];

/**
 * Reads the public key of who signs bundles.
 *
 * @param {string} pem an Ed25519 key, as `adclick edge keys` writes it
 * @returns {Promise<CryptoKey>}
 * @throws {BundleRefused} there is none in it, or this browser verifies no Ed25519
 */
export async function readPublicKey(pem) {
  const body = /-----BEGIN PUBLIC KEY-----([\s\S]+)-----END PUBLIC KEY-----/.exec(pem);
  if (!body) throw new BundleRefused("unsigned", "the public key is no key in PEM");
  if (!globalThis.crypto?.subtle) throw new BundleRefused("unsigned", "signatures are verified over HTTPS or on localhost only");
  try {
    const content = Uint8Array.from(atob(body[1].replace(/\s/g, "")), (letter) => letter.charCodeAt(0));
    return await crypto.subtle.importKey("spki", content, { name: "Ed25519" }, false, ["verify"]);
  } catch (error) {
    throw new BundleRefused("unsigned", `the public key is no Ed25519 key that this browser reads: ${error.message}`);
  }
}

/**
 * Verifies a bundle and reads it.
 *
 * @param {ArrayBuffer} content the file
 * @param {CryptoKey} key who may have signed it
 * @returns {Promise<{version: number, created: number, model: Uint8Array, known: number, creatives: object[],
 *   dimension: number, embeddings: Int8Array, scales: Float32Array}>} embeddings are [N, D], by rows
 * @throws {BundleRefused} it is damaged, unsigned, altered, for another runtime, or does not fit together
 */
export async function readBundle(content, key) {
  const parts = readArchive(content);
  const bytes = parts.get("manifest.json");
  if (!(await crypto.subtle.verify("Ed25519", key, parts.get("manifest.sig"), bytes)))
    throw new BundleRefused("unsigned", "the key that is trusted has not signed it");
  try {
    const manifest = json(bytes);
    await check(manifest, parts);
    return interpret(manifest, parts);
  } catch (error) {
    if (error instanceof BundleRefused) throw error;
    throw new BundleRefused("unfit", `its parts do not fit together: ${error.message}`);
  }
}

async function check(manifest, parts) {
  if (manifest.format !== FORMAT) throw new BundleRefused("wrong_runtime", `its format is ${manifest.format}, this page reads ${FORMAT}`);
  const stated = Object.keys(manifest.files).sort().join();
  const held = [...parts.keys()].filter((name) => !name.startsWith("manifest.")).sort().join();
  if (stated !== held) throw new BundleRefused("altered", "it holds other files than the manifest says");
  for (const [name, { size, sha256 }] of Object.entries(manifest.files)) {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", parts.get(name)));
    const hexadecimal = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    if (size !== parts.get(name).length || sha256 !== hexadecimal) throw new BundleRefused("altered", `${name} is not what the manifest says`);
  }
  if (isNewer(manifest.minimum_runtime, RUNTIME_VERSION))
    throw new BundleRefused("wrong_runtime", `it needs runtime ${manifest.minimum_runtime} or later, this is ${RUNTIME_VERSION}`);
}

function interpret(manifest, parts) {
  const { creatives, dimension } = json(parts.get("catalogue.json"));
  const embeddings = new Int8Array(parts.get("embeddings.i8").slice().buffer);
  const scales = new Float32Array(parts.get("scales.f4").slice().buffer);
  if (embeddings.length !== creatives.length * dimension || scales.length !== creatives.length) throw new Error("the catalogue has other rows");
  if (!scales.every(Number.isFinite)) throw new Error("a scale is no number");
  const { known } = json(parts.get("thresholds.json"));
  if (!Number.isFinite(known)) throw new Error("the threshold is no number");
  const model = parts.get("recogniser.tflite").slice();
  return { version: manifest.version, created: manifest.created, model, known, creatives, dimension, embeddings, scales };
}

/** The entries of a ZIP archive without compression (PKWARE's APPNOTE 4.3), by name. */
function readArchive(content) {
  const view = new DataView(content);
  const entries = new Map();
  try {
    let end = view.byteLength - END.bytes;
    while (view.getUint32(end, true) !== END.mark) end--;
    let place = view.getUint32(end + 16, true);
    for (let count = view.getUint16(end + 10, true); count > 0; count--) {
      if (view.getUint32(place, true) !== ENTRY.mark) throw new RangeError("no whole archive");
      if (view.getUint16(place + 10, true)) throw new RangeError("it holds compressed entries, which no bundle has");
      const [size, length] = [view.getUint32(place + 24, true), view.getUint16(place + 28, true)];
      const local = view.getUint32(place + 42, true);
      if (view.getUint32(local, true) !== LOCAL.mark) throw new RangeError("no whole archive");
      const name = new TextDecoder().decode(new Uint8Array(content, place + ENTRY.bytes, length));
      if (entries.has(name)) throw new RangeError(`it holds ${name} twice`);
      const begin = local + LOCAL.bytes + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
      entries.set(name, new Uint8Array(content, begin, size));
      place += ENTRY.bytes + length + view.getUint16(place + 30, true) + view.getUint16(place + 32, true);
    }
  } catch (error) {
    throw new BundleRefused("damaged", `no whole archive: ${error.message}`);
  }
  if (entries.has("manifest.json") && !entries.has("manifest.sig")) throw new BundleRefused("unsigned", "it holds no signature");
  const missing = REQUIRED.filter((name) => !entries.has(name));
  const strange = [...entries.keys()].filter((name) => ![...REQUIRED, ...OPTIONAL].includes(name));
  if (missing.length || strange.length) throw new BundleRefused("damaged", `it lacks [${missing}] and holds [${strange}]`);
  return entries;
}

function isNewer(version, than) {
  const [numbers, others] = [version, than].map((each) => each.split(".").map(Number));
  const place = numbers.findIndex((number, index) => number !== others[index]);
  return place >= 0 && !(numbers[place] < others[place]);
}

function json(bytes) {
  return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
}
