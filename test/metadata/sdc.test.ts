import assert from 'node:assert';
import fc from 'fast-check';
import { render, sdcValue } from '../../src/metadata/sdc';
import type { Reply } from '../../src/protocol/reply';
import { FIXTURE } from '../support/vm-fixture';
import type { VmFixture } from '../support/vm-fixture';
import { EMPTY_VM, memoryVm } from '../support/vm-data';

const NOTFOUND: Reply = { kind: 'notfound' };
const NO_TEXT: Reply = { kind: 'failure', text: '' };

/** A VM with something behind each rule. */
const VM: VmFixture = {
  ...FIXTURE,
  vm: {
    ...FIXTURE.vm,
    device: null,
    'a.b': 'dotted',
    'filesystems.0.type': 'literal',
    disks: [{ path: '/dev/a', size: 10240, boot: true, nothing: null, ips: [] }, null, 'text'],
    filesystems: [{ type: 'lofs' }],
    one: [7],
    none: [],
    fraction: 10.5,
    large: 1e21,
    vnc_password: 'secret',
    spice_password: 'secret',
    spice_opts: 'secret',
    qemu_opts: 'secret',
    qemu_extra_opts: 'secret',
    bhyve_extra_opts: 'secret',
    internal_metadata: { hidden: 'secret' },
    customer_metadata: { motd: 'an old copy' },
    tags: { role: 'an old copy' },
    routes: { 'an old': 'copy' },
  },
  tags: { ...FIXTURE.tags, '': 'unnamed', nil: null, map: {}, toString: 'own' },
  routes: { ...FIXTURE.routes, a: '1.2.3.4', bad: 7 },
};

function value(name: string, vm = VM): Reply {
  return sdcValue(name, vm.vm, memoryVm(vm));
}

function text(name: string, vm = VM): string {
  const reply = value(name, vm);
  assert(reply.kind === 'success', `${name}: ${reply.kind}`);
  return reply.text.toString();
}

/** Section 3 of the specification, said again by someone in no hurry. */
function slowValue(name: string, vm: VmFixture): Reply {
  const own = (object: unknown, key: string): unknown =>
    Object.entries(Object(object) as object).find(([found]) => found === key)?.[1];
  const json = (found: unknown): Reply =>
    found === null || found === undefined
      ? NOTFOUND
      : { kind: 'success', text: JSON.stringify(found) };
  const at = (array: unknown, index: string): unknown =>
    Array.isArray(array) ? array.find((_, place) => String(place) === index) : undefined;
  const hidden =
    /^(internal_metadata(\..*)?|(vnc|spice)_password|(spice|qemu|qemu_extra|bhyve_extra)_opts)$/s;
  if (hidden.test(name)) {
    return NOTFOUND;
  }
  if (/^(nics|resolvers|tmpfs)$/.test(name)) {
    return json(own(vm.vm, name));
  }
  if (/^(tags|customer_metadata)$/.test(name)) {
    return NO_TEXT;
  }
  if (name.startsWith('tags.')) {
    return render(own(vm.tags, name.slice(5)));
  }
  const parts = name.split('.');
  const [first = '', second = '', third = ''] = parts;
  if (parts.length === 3 && ['disks', 'nics', 'pci_devices'].includes(first)) {
    const element = at(own(vm.vm, first), second);
    return typeof element === 'object' ? render(own(element, third)) : NOTFOUND;
  }
  if (parts.length === 2 && first === 'customer_metadata') {
    return render(own(vm.customer, second));
  }
  if (parts.length === 2 && first === 'routes') {
    return render(own(vm.routes, second));
  }
  if (parts.length === 2 && ['resolvers', 'internal_metadata_namespaces'].includes(first)) {
    return render(at(own(vm.vm, first), second));
  }
  return render(own(vm.vm, name));
}

describe('sdc', () => {
  it('gives the values that a plain reading of the rules gives', () => {
    const special = ['routes', 'operator-script', 'volumes'];
    const part = fc.constantFrom(
      ...Object.keys(VM.vm),
      ...Object.keys(VM.tags),
      ...['0', '1', '2', '00', '-1', '0x1', '', 'ip', 'mac', 'path', 'length', 'constructor'],
      ...['__proto__', 'motd', 'root_pw', 'a', 'pci_devices', 'tags', 'routes', 'hidden'],
    );
    const name = fc.array(part, { maxLength: 4 }).map((parts) => parts.join('.'));
    fc.assert(
      fc.property(name, (asked) => {
        fc.pre(!special.includes(asked));
        assert.deepStrictEqual(value(asked), slowValue(asked, VM), asked);
      }),
      { numRuns: 3000 },
    );
  });

  it('gives scalars as JavaScript writes them', () => {
    assert.strictEqual(text('uuid'), '5f3c8d8a-6f2b-4d0e-9a57-0c1c2b7e4a11');
    assert.strictEqual(text('quota'), '10');
    assert.strictEqual(text('fraction'), '10.5');
    assert.strictEqual(text('large'), '1e+21');
    assert.strictEqual(text('maintain_resolvers'), 'true');
    assert.strictEqual(text('firewall_enabled'), 'false');
  });

  it('answers NOTFOUND for null, and FAILURE for an object or a list', () => {
    assert.deepStrictEqual(value('device'), NOTFOUND);
    assert.deepStrictEqual(value('disks.0.nothing'), NOTFOUND);
    assert.deepStrictEqual(value('tags.nil'), NOTFOUND);
    for (const name of ['tags', 'customer_metadata', 'disks', 'one', 'none', 'nics.0.ips']) {
      assert.deepStrictEqual(value(name), NO_TEXT, name);
    }
  });

  it('gives nics, resolvers and tmpfs as compact JSON, non-ASCII as it is', () => {
    assert.strictEqual(text('tmpfs'), '256');
    assert.strictEqual(text('resolvers'), '["8.8.8.8","8.8.4.4"]');
    assert.strictEqual(text('nics'), JSON.stringify(FIXTURE.vm.nics));
    const odd = { ...EMPTY_VM, vm: { nics: [{ model: 'naïve', a: [] }], resolvers: [], tmpfs: 0 } };
    assert.strictEqual(text('nics', odd), '[{"model":"naïve","a":[]}]');
    assert.strictEqual(text('resolvers', odd), '[]');
    assert.strictEqual(text('tmpfs', odd), '0');
    for (const name of ['nics', 'resolvers', 'tmpfs']) {
      assert.deepStrictEqual(value(name, EMPTY_VM), NOTFOUND);
      assert.deepStrictEqual(value(name, { ...EMPTY_VM, vm: { [name]: null } }), NOTFOUND);
    }
  });

  it("gives the operator's script and the volumes as they are stored", () => {
    assert.strictEqual(text('operator-script'), '#!/bin/sh\n:\n');
    assert.strictEqual(text('volumes'), '[]');
    assert.deepStrictEqual(value('operator-script', EMPTY_VM), NOTFOUND);
    assert.deepStrictEqual(value('volumes', EMPTY_VM), NOTFOUND);
  });

  it("computes routes from the file's routes and the VM's nics", () => {
    const old = { ...FIXTURE, vm: { ...FIXTURE.vm, routes: { old: '9.9.9.9' } } };
    assert.match(text('routes', old), /^\[\{"linklocal":false,"dst":"10\.2\.2\.0\/24"/);
    assert.strictEqual(text('routes', EMPTY_VM), '[]');
  });

  it('finds tags by all that follows the first dot, from the file', () => {
    assert.strictEqual(text('tags.role'), 'db');
    assert.strictEqual(text('tags.a.b'), '7');
    assert.strictEqual(text('tags.on'), 'true');
    assert.strictEqual(text('tags.toString'), 'own');
    assert.deepStrictEqual(value('tags.valueOf'), NOTFOUND);
  });

  it('follows dots where the platform does, and nowhere else', () => {
    assert.strictEqual(text('nics.0.ip'), '10.2.1.20');
    assert.strictEqual(text('disks.0.size'), '10240');
    assert.strictEqual(text('resolvers.1'), '8.8.4.4');
    assert.strictEqual(text('internal_metadata_namespaces.0'), 'docker');
    assert.strictEqual(text('customer_metadata.root_pw'), 'shadowed');
    assert.strictEqual(text('routes.a'), '1.2.3.4');
    assert.strictEqual(text('a.b'), 'dotted');
    assert.strictEqual(text('filesystems.0.type'), 'literal');
    for (const name of [
      '',
      'nics.0',
      'routes.10.2.2.0/24',
      'customer_metadata.a.b',
      'nics.0.ip.x',
    ]) {
      assert.deepStrictEqual(value(name), NOTFOUND, name);
    }
  });

  it('accepts only a plain number as an index', () => {
    for (const index of ['', '00', '01', '0x1', '-1', '1e0', ' 1', '2', '9'.repeat(30)]) {
      assert.deepStrictEqual(value(`resolvers.${index}`), NOTFOUND, index);
    }
  });

  it('finds own properties only', () => {
    const inherited = ['constructor', '__proto__', 'toString', 'hasOwnProperty'];
    const below = [
      'routes',
      'nics.0',
      'tags',
      'customer_metadata',
      'resolvers',
      'disks.2',
      'disks.1',
    ];
    for (const name of [...inherited, ...below.map((map) => `${map}.__proto__`)]) {
      assert.deepStrictEqual(value(name), NOTFOUND, name);
    }
    for (const name of [
      'resolvers.length',
      'nics.length',
      'nics.0.constructor',
      'disks.2.length',
    ]) {
      assert.deepStrictEqual(value(name), NOTFOUND, name);
    }
    assert.deepStrictEqual(
      value('nics.0.x', { ...EMPTY_VM, vm: { nics: { 0: { x: 1 } } } }),
      NOTFOUND,
    );
  });

  it("answers NOTFOUND for internal metadata and the host's secrets", () => {
    for (const key of Object.keys(FIXTURE.internal)) {
      assert.deepStrictEqual(value(`internal_metadata.${key}`), NOTFOUND, key);
    }
    const secrets = Object.keys(VM.vm).filter((name) => VM.vm[name] === 'secret');
    assert.strictEqual(secrets.length, 6);
    for (const name of ['internal_metadata', 'internal_metadata.', ...secrets]) {
      assert.deepStrictEqual(value(name), NOTFOUND, name);
    }
  });
});
