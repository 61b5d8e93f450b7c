/*
 * vmadm's side of vminfod: one GET at a time, and the endless stream of events.
 */
import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import { z } from 'zod';

import { messageOf } from '../../src/lib/errors';
import type { Paths } from '../../src/platform/paths';
import type { JsonObject } from '../../src/metadata/vm-data';

const vmSchema = z.record(z.string(), z.unknown());

class VminfodError extends Error {}

/** All VMs as vminfod knows them. */
export async function allVms(paths: Paths): Promise<JsonObject[]> {
  const body = await text(await request(paths, '/vms'));
  return z.array(vmSchema).parse(parse(body));
}

/** @returns undefined for a VM that vminfod does not know */
export async function vmByUuid(paths: Paths, uuid: string): Promise<JsonObject | undefined> {
  const response = await request(paths, `/vms/${uuid}`, 404);
  const body = await text(response);
  if (response.statusCode === 200) {
    return vmSchema.parse(parse(body));
  }
  // It knows them by zonename, which commonly, but not always, is the uuid.
  return (await allVms(paths)).find((vm) => vm.uuid === uuid);
}

/** vminfod's event stream, from its first line on. */
export function eventStream(paths: Paths): Promise<IncomingMessage> {
  return request(paths, '/events');
}

async function request(paths: Paths, path: string, also = 200): Promise<IncomingMessage> {
  const socketPath = paths.host('/var/run/vminfod.sock');
  const agent = `vmadm - simcn/${process.pid} (vmadm)`;
  const pending = get({ socketPath, path, headers: { 'User-Agent': agent } });
  try {
    const [response] = (await once(pending, 'response')) as [IncomingMessage];
    if (response.statusCode !== 200 && response.statusCode !== also) {
      response.resume();
      throw new Error(`status ${response.statusCode ?? 0}`);
    }
    return response;
  } catch (err) {
    throw new VminfodError(`vminfod: GET ${path}: ${messageOf(err)}`);
  }
}

async function text(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of response) {
      chunks.push(Buffer.from(chunk as Uint8Array));
    }
  } catch (err) {
    throw new VminfodError(`vminfod: ${messageOf(err)}`);
  }
  return Buffer.concat(chunks).toString();
}

function parse(body: string): unknown {
  try {
    const value: unknown = JSON.parse(body);
    return value;
  } catch (err) {
    throw new VminfodError(`vminfod: ${messageOf(err)}`);
  }
}
