/*
 * The quickstart's tour: what guests of the sample node and its operator are shown, step by step, and what
 * each step must show.
 */

export interface ListedZone {
  readonly uuid: string;
  readonly brand: string;
  readonly alias?: string;
}

export interface Step {
  /** Null: the node itself, whose commands are simcn's. */
  readonly zone: ListedZone | null;
  readonly command: readonly string[];
  /** What the step shows, for the reader. */
  readonly about: string;
  readonly status: number;
  /** What its output must hold. */
  readonly shows?: RegExp;
}

/** A step did not do what it should. */
export class TourFault extends Error {}

function step(
  zone: ListedZone | null,
  command: readonly string[],
  about: string,
  shows?: RegExp,
  status = 0,
): Step {
  return { zone, command, about, status, ...(shows === undefined ? {} : { shows }) };
}

/** @param zones those of the sample node */
export function tour(zones: readonly ListedZone[]): Step[] {
  const byBrand = (brand: string): ListedZone => {
    const zone = zones.find((candidate) => candidate.brand === brand);
    if (zone === undefined) {
      throw new TourFault(`the sample node has no zone of brand ${brand}`);
    }
    return zone;
  };
  const native = byBrand('joyent');
  const lx = byBrand('lx');
  return [
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
    step(native, ['mdata-put', 'sdc:uuid', 'x'], "what is not the guest's: refused", /sdc/, 2),
    ...datasetSteps(native),
    step(lx, ['mdata-get', 'sdc:brand'], 'an lx zone has it in /native/.zonecontrol', /^lx$/m),
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
    step(null, ['reprovision', zone.uuid], 'its root is replaced'),
    step(zone, ['zfs', 'list', '-t', 'all'], '... and its datasets stay', /@monday/),
    step(zone, ['sh', '-c', send], 'streams may hurt the node: refused', /permission denied/, 1),
  ];
}
