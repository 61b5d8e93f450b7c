/*
 * What the node does for each command that comes in over the control socket: arguments parsed, the node
 * asked, an answer for a person or a program made.
 */
import type { Socket } from 'node:net';
import { z } from 'zod';

import type { Args, Serve } from './control';
import { parseFault } from './faults';
import type { Injector } from './injector';
import type { Node } from './node';
import { viewOf } from './view';
import { parseVms } from './vm-input';

const id = z.object({ uuid: z.string() });
const named = id.extend({ name: z.string() });
const schemas = {
  create: z.object({ vms: z.unknown(), boot: z.boolean(), strict: z.boolean().default(false) }),
  reboot: id.extend({ guest: z.boolean() }),
  set: id.extend({ properties: z.record(z.string(), z.unknown()) }),
  rollback: named.extend({ start: z.boolean().default(false) }),
  fault: z.object({ text: z.string(), zone: z.string().nullable() }),
};

/**
 * Carries out what the control socket is asked. What it throws goes to the asker in words.
 * @param end called when somebody asks the node to end
 */
export function serveNode(node: Node, injector: Injector, end: () => void): Serve {
  return async (command: string, args: Args, caller: Socket): Promise<unknown> => {
    switch (command) {
      case 'create': {
        const { vms: given, boot, strict } = schemas.create.parse(args);
        const { vms, warnings } = parseVms(given, strict);
        const zones = await node.create(vms, boot, strict);
        return { uuids: zones.map((zone) => zone.uuid), warnings };
      }
      case 'boot':
        return node.boot(id.parse(args).uuid);
      case 'shutdown':
        return node.shutdown(id.parse(args).uuid);
      case 'reboot': {
        const { uuid, guest } = schemas.reboot.parse(args);
        return node.reboot(uuid, guest);
      }
      case 'destroy': {
        const { uuid } = id.parse(args);
        const zone = node.find(uuid);
        await injector.release(zone);
        await node.destroy(zone.zonename);
        node.machine.faults.forget(zone.zonename);
        return null;
      }
      case 'reprovision':
        return node.reprovision(id.parse(args).uuid);
      case 'snapshot': {
        const { uuid, name } = named.parse(args);
        return node.snapshot(uuid, name);
      }
      case 'rollback': {
        const { uuid, name, start } = schemas.rollback.parse(args);
        return node.rollback(uuid, name, start);
      }
      case 'delete-snapshot': {
        const { uuid, name } = named.parse(args);
        return node.deleteSnapshot(uuid, name);
      }
      case 'snapshots':
        return node.find(id.parse(args).uuid).snapshots.map(({ name }) => name);
      case 'zfs-list':
        return node.pool();
      case 'down':
        // After the answer: the asker waits for this process to be gone.
        setImmediate(end);
        return process.pid;
      case 'vm':
        return node.find(id.parse(args).uuid).vm();
      case 'ls':
        return node.vms();
      case 'enter':
        return enter(node, id.parse(args).uuid, caller);
      case 'set': {
        const { uuid, properties } = schemas.set.parse(args);
        return node.setProperties(uuid, properties);
      }
      case 'fault': {
        const { text, zone } = schemas.fault.parse(args);
        const zonename = zone === null ? null : node.find(zone).zonename;
        return injector.inject(parseFault(text, zonename));
      }
      case 'faults':
        return node.machine.faults.all();
      case 'clear-faults':
        return injector.clear();
      default:
        throw new Error(`no such command: ${command}`);
    }
  };
}

/** A session in a zone lasts as long as the caller stays, and no longer than the zone runs. */
function enter(node: Node, uuid: string, caller: Socket): unknown {
  const zone = node.find(uuid);
  const view = viewOf(node.machine, zone);
  const over = new Promise((resolve) => caller.once('close', resolve));
  // Who hears the end kills what he runs, and only then hangs up.
  zone.enter({ end: () => caller.end(), over });
  return view;
}
