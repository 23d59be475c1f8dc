// Chance by a seed in the place of what `node:crypto` draws: keys, salts and ids of a program come out the same again.
// Must not know: clocks, processes, who runs in them.
import crypto from "node:crypto";
import { syncBuiltinESMExports } from "node:module";

const { createHash } = crypto;
const soon = globalThis.setImmediate;

/** Functions in the place of those of `node:crypto`, by name; `getRandomValues` is that of its `webcrypto`. */
export function seededCrypto(seed) {
  let drawn = 0;
  const bytes = (size) => {
    const parts = [];
    for (let length = 0; length < size; length += 32) {
      parts.push(createHash("sha256").update(`${seed} ${drawn++}`).digest());
    }
    return Buffer.concat(parts).subarray(0, size);
  };
  const later = (callback, value) => soon(() => callback(null, value));
  const randomBytes = (size, callback) => (callback ? later(callback, bytes(size)) : bytes(size));
  const randomFillSync = (buffer, offset = 0, size = undefined) => {
    const width = buffer.BYTES_PER_ELEMENT ?? 1; // Of an array of numbers, what is counted are those.
    const from = offset * width;
    const view = new Uint8Array(buffer.buffer ?? buffer, buffer.byteOffset ?? 0, buffer.byteLength);
    view.set(bytes(size === undefined ? view.length - from : size * width), from);
    return buffer;
  };
  const randomFill = (buffer, ...args) => {
    const callback = args.pop();
    later(callback, randomFillSync(buffer, ...args));
  };
  const randomUUID = () => {
    const drawnBytes = bytes(16);
    drawnBytes[6] = (drawnBytes[6] & 0x0f) | 0x40;
    drawnBytes[8] = (drawnBytes[8] & 0x3f) | 0x80;
    const hex = drawnBytes.toString("hex");
    return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
  };
  const randomInt = (min, max, callback) => {
    if (max === undefined || typeof max === "function") [min, max, callback] = [0, min, max];
    const value = min + Number(bytes(8).readBigUInt64BE() % BigInt(max - min));
    return callback ? later(callback, value) : value;
  };
  const getRandomValues = (array) => randomFillSync(array);
  const pseudoRandomBytes = randomBytes;
  return { randomBytes, pseudoRandomBytes, randomFillSync, randomFill, randomUUID, randomInt, getRandomValues };
}

/** Replace what draws numbers in this process: the same seed draws the same ones. Nothing here is fit for a secret. */
export function installChance(seed) {
  const { getRandomValues, ...drawing } = seededCrypto(seed);
  Object.assign(crypto, drawing);
  crypto.webcrypto.getRandomValues = getRandomValues;
  globalThis.crypto.randomUUID = drawing.randomUUID;
  syncBuiltinESMExports();
}
