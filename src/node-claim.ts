/*
 * The agent's claim to its node: there is a node below the root, and no other agent serves it.
 *
 * Made first thing at the start and kept for the agent's life; the kernel ends it with the process,
 * however that ends.
 */
import { existsSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { codeOf, SystemError, systemError } from './lib/errors';
import { takeLock, type HeldLock } from './platform/lock';
import type { Paths } from './platform/paths';

/** An agent that is being replaced has this long to go. */
const OTHER_AGENT_MS = 2000;
/** The mode of the admin socket in the agent's directory keeps nobody out on illumos (transport/socket-file.ts). */
const RUN_DIR_MODE = 0o700;

/**
 * @returns the claim, to be released when all is taken down
 * @throws SystemError: `access` ENOENT where no node is, `lock` EBUSY where another agent serves it,
 *   and what making the agent's own directory or the lock met
 */
export async function claimNode({ runDir, agentLock, zoneIndex }: Paths): Promise<HeldLock> {
  if (!existsSync(zoneIndex)) {
    const detail = 'no compute node is there (off SmartOS `simcn up --root DIR` makes one)';
    throw new SystemError('access', zoneIndex, 'ENOENT', detail);
  }
  makeRunDir(runDir);
  try {
    return await takeLock(agentLock, { timeoutMs: OTHER_AGENT_MS });
  } catch (err) {
    if (codeOf(err) !== 'ETIMEDOUT') {
      throw err;
    }
    const detail = 'another mdatad serves this node, and goes on: stop it first';
    throw new SystemError('lock', agentLock, 'EBUSY', detail, err);
  }
}

/** Made where it is missing: /var/run is emptied by a boot of the node. What is in it stays. */
function makeRunDir(path: string): void {
  // In two steps: node:fs loses the errno of a directory that it makes with those above it.
  mkdirSync(dirname(path), { recursive: true });
  try {
    mkdirSync(path, { mode: RUN_DIR_MODE });
  } catch (err) {
    if (codeOf(err) !== 'EEXIST') {
      throw systemError('mkdir', path, err);
    }
  }
}
