/*
 * Runs a program of one file from what V8 made of it before: of a start that takes 100 ms of processor time, 30 were
 * parsing and compiling. What V8 made lies beside the program.
 *
 *   program.js, program.js.cache --digest and V8 agree--> runs at once
 *                                --otherwise-----------> compiled as ever; `keep` writes the cache for the next time
 *
 * V8 refuses what another version or other flags made, but trusts the rest: of the program it checks no more than the
 * length, of the cache nothing. So the cache begins with a digest over both and over what runs them. Used by start.ts.
 */
import { createHash } from 'node:crypto';
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { Script } from 'node:vm';

const DIGEST = 'sha256';
const DIGEST_BYTES = 32;

/** A program that has run. */
export interface CachedProgram {
  /** False: it was compiled, as there was no cache of this program by this Node. */
  readonly cached: boolean;
  /** Writes the cache, with all functions that have run by now. Harmless where the directory cannot be written. */
  keep(): void;
}

/** Runs a CommonJS file, as `require` does. @throws what the program throws, or an errno where it cannot be read */
export function runProgram(path: string): CachedProgram {
  const source = readFileSync(path, 'utf8');
  const cachePath = `${path}.cache`;
  const cachedData = readCache(cachePath, source);
  // Not in a line of its own: lines of a stack trace are those of the file.
  const script = new Script(
    `(function (exports, require, module, __filename, __dirname) { ${source}\n})`,
    { filename: path, ...(cachedData !== null && { cachedData }) },
  );
  const module = { exports: {} };
  const run: unknown = script.runInThisContext();
  if (typeof run === 'function') {
    run.call(module.exports, module.exports, createRequire(path), module, path, dirname(path));
  }
  return {
    cached: cachedData !== null && script.cachedDataRejected !== true,
    keep: () => writeCache(cachePath, source, script.createCachedData()),
  };
}

/** @returns null where there is none that was made of this source by this Node, whole */
function readCache(path: string, source: string): Buffer | null {
  try {
    const bytes = readFileSync(path);
    const data = bytes.subarray(DIGEST_BYTES);
    return digestOf(source, data).equals(bytes.subarray(0, DIGEST_BYTES)) ? data : null;
  } catch {
    // There is none, or it is not for us: the program runs without it.
    return null;
  }
}

function writeCache(path: string, source: string, data: Buffer): void {
  // Others may write it at the same time, and a start must never read half of it.
  const own = `${path}.${process.pid}`;
  try {
    writeFileSync(own, Buffer.concat([digestOf(source, data), data]));
    renameSync(own, path);
  } catch {
    // A directory that is read-only, or full: starts take longer, and nothing else.
    rmSync(own, { force: true });
  }
}

function digestOf(source: string, data: Buffer): Buffer {
  const { version, arch, platform } = process;
  const digest = createHash(DIGEST).update(`${version} ${arch} ${platform}\n`);
  return digest.update(source).update(data).digest();
}
