/*
 * How many snapshots and filesystems there are below a dataset, from the output of
 *
 *   zfs list -H -p -t filesystem,volume,snapshot -o name,type
 *
 * The numbers mean what ZFS compares with its limits: snapshots of the dataset and of all below it;
 * filesystems and volumes below it, itself left out. One pass makes the sums of every dataset of the
 * node, so an audit of a thousand VMs reads the listing once. Pure: the caller runs the command.
 */

export interface Usage {
  readonly snapshots: number;
  /** Filesystems and volumes: ZFS has one limit for both. */
  readonly filesystems: number;
}

export type ZfsListing =
  | { readonly kind: 'listed'; readonly usage: ReadonlyMap<string, Usage> }
  /** No number can be trusted. `line` counts from 1. */
  | { readonly kind: 'garbled'; readonly line: number };

/** The arguments that make the output this file reads. */
export const ZFS_LIST_ARGS: readonly string[] = [
  'list',
  '-H',
  '-p',
  '-t',
  'filesystem,volume,snapshot',
  '-o',
  'name,type',
];

interface Sum {
  snapshots: number;
  filesystems: number;
}

/** Reads a whole listing. Types other than the three (bookmarks) are left out. */
export function parseZfsList(text: string): ZfsListing {
  const sums = new Map<string, Sum>();
  const lines = text.split('\n');
  for (const [index, line] of lines.entries()) {
    if (line === '') {
      continue;
    }
    const [name, type, ...rest] = line.split('\t');
    if (name === undefined || name === '' || type === undefined || rest.length > 0) {
      return { kind: 'garbled', line: index + 1 };
    }
    switch (type) {
      case 'snapshot': {
        const at = name.indexOf('@');
        if (at < 1) {
          return { kind: 'garbled', line: index + 1 };
        }
        const dataset = name.slice(0, at);
        sumOf(sums, dataset).snapshots++;
        for (const above of ancestors(dataset)) {
          sumOf(sums, above).snapshots++;
        }
        break;
      }
      case 'filesystem':
      case 'volume':
        sumOf(sums, name);
        for (const above of ancestors(name)) {
          sumOf(sums, above).filesystems++;
        }
        break;
      default:
        break;
    }
  }
  return { kind: 'listed', usage: sums };
}

/**
 * What all the datasets of one VM use together. A dataset below another one is in that one's numbers
 * already. Undefined where one of them is not in the listing: part of a sum would be a wrong sum.
 */
export function usageOf(
  listed: ReadonlyMap<string, Usage>,
  datasets: readonly string[],
): Usage | undefined {
  const names = new Set(datasets);
  const total: Sum = { snapshots: 0, filesystems: 0 };
  for (const name of names) {
    const usage = listed.get(name);
    if (usage === undefined) {
      return undefined;
    }
    if (!ancestors(name).some((above) => names.has(above))) {
      total.snapshots += usage.snapshots;
      total.filesystems += usage.filesystems;
    }
  }
  return names.size === 0 ? undefined : total;
}

function sumOf(sums: Map<string, Sum>, dataset: string): Sum {
  let sum = sums.get(dataset);
  if (sum === undefined) {
    sum = { snapshots: 0, filesystems: 0 };
    sums.set(dataset, sum);
  }
  return sum;
}

/** `a/b/c` is below `a/b` and `a`. */
function ancestors(dataset: string): readonly string[] {
  const above: string[] = [];
  for (let at = dataset.lastIndexOf('/'); at > 0; at = dataset.lastIndexOf('/', at - 1)) {
    above.push(dataset.slice(0, at));
  }
  return above;
}
