/*
 * The quickstart's tour: the commands that guests of the sample node and its operator run, one by one, and what
 * each must print.
 */

export interface ListedZone {
  readonly uuid: string;
  readonly brand: string;
  readonly alias?: string;
}

export interface Step {
  /** Where the command runs: in a zone, or in the global zone. */
  readonly zone: ListedZone | null;
  /** In the global zone of simcn or mdatactl, by name. */
  readonly command: readonly string[];
  /** What the step shows, for the reader. */
  readonly about: string;
  readonly status: number;
  /** What its output must hold. */
  readonly shows?: RegExp;
}

/** A step did not do what it should, or the tour could not go on. */
export class TourError extends Error {}

function step(
  zone: ListedZone | null,
  command: readonly string[],
  about: string,
  shows?: RegExp,
  status = 0,
): Step {
  return { zone, command, about, status, ...(shows === undefined ? {} : { shows }) };
}

/** Something changes the key each second: however late the watch begins, it sees a change. */
const WATCH =
  '(while sleep 1; do mdata-put motto "hi $((n += 1))"; done) & mdata-watch -t 30 --once motto; kill $!';

/** @param zones those of the sample node */
export function tour(zones: readonly ListedZone[]): Step[] {
  const byBrand = (brand: string): ListedZone => {
    const zone = zones.find((candidate) => candidate.brand === brand);
    if (zone === undefined) {
      throw new TourError(`the sample node has no zone of brand ${brand}`);
    }
    return zone;
  };
  const native = byBrand('joyent');
  const lx = byBrand('lx');
  const operator = (about: string, shows: RegExp, ...args: string[]): Step =>
    step(null, ['mdatactl', ...args], about, shows);
  return [
    operator('is the agent well?', /^health +ok/m, 'status'),
    operator(
      'the zones, one a line',
      /web0.*running/,
      ...['zones', '-o', 'alias,brand,state,health,link,last'],
    ),
    operator('why does this zone get no metadata? it does', /ok/, 'doctor', native.uuid),
    step(
      native,
      ['ls', '-la', '/.zonecontrol'],
      'the directory that the brand mounts',
      /metadata\.sock/,
    ),
    step(native, ['mdata-list'], 'what the guest may know', /user-script/),
    step(native, ['mdata-get', 'user-script'], 'the script that it runs at boot', /#!/),
    step(native, ['mdata-get', 'sdc:nics'], 'its network', /"mac"/),
    step(native, ['mdata-get', 'sdc:routes'], 'its routes, worked out from its nics', /linklocal/),
    step(native, ['mdata-put', 'triton.cns.status', 'up'], 'it tells the node something'),
    step(native, ['mdata-get', 'triton.cns.status'], '... which is there at once', /^up$/m),
    step(native, ['mdata-delete', 'triton.cns.status'], '... and takes it back'),
    step(native, ['mdata-get', 'triton.cns.status'], '... gone: exit status 1', undefined, 1),
    step(
      native,
      ['sh', '-c', WATCH],
      'it waits for a change, and is told of it',
      /^motto\nhi \d+$/m,
    ),
    step(native, ['mdata-put', 'sdc:uuid', 'x'], "what is not the guest's: refused", /sdc/, 2),
    ...datasetSteps(native),
    step(lx, ['mdata-get', 'sdc:brand'], 'an lx zone has it in /native/.zonecontrol', /^lx$/m),
    operator(
      'delegated datasets, and how many of their snapshots are used',
      /1\/8/,
      ...['datasets', '-o', 'verdict,snapshots,dataset'],
    ),
    operator(
      'the busiest zones: live on a terminal, here one screen',
      /web0/,
      ...['top', '-n', '1', '-o', 'alias,brand,requests,errors,bytes,latency,last'],
    ),
  ];
}

/** A zone that manages a dataset of its own, within what "safe" leaves it. */
function datasetSteps(zone: ListedZone): Step[] {
  const data = `zones/${zone.uuid}/data`;
  const send = `zfs send ${data}/db@monday | zfs recv ${data}/copy`;
  return [
    step(zone, ['mdata-get', 'sdc:datasets'], 'the datasets that it manages itself', /data/),
    step(zone, ['mdata-get', 'sdc:delegate_dataset'], '... by the rules of "safe"', /^safe$/m),
    step(zone, ['zfs', 'create', `${data}/db`], 'a filesystem for its database'),
    step(zone, ['zfs', 'snapshot', `${data}/db@monday`], '... and a snapshot of it'),
    step(null, ['simcn', 'reprovision', zone.uuid], 'its root is replaced'),
    step(zone, ['zfs', 'list', '-t', 'all', '-o', 'name'], '... and its datasets stay', /@monday/),
    step(zone, ['sh', '-c', send], 'a stream can hurt the node: refused', /permission denied/, 1),
  ];
}
