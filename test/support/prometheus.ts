/* A reader of Prometheus' text format, after its specification and no library. */

export interface Sample {
  readonly name: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly value: number;
}

export interface Exposition {
  readonly types: ReadonlyMap<string, string>;
  readonly samples: readonly Sample[];
}

/** Throws on a line that is neither a comment nor a sample. */
export function parseExposition(text: string): Exposition {
  const types = new Map<string, string>();
  const samples: Sample[] = [];
  for (const line of text.split('\n').filter((each) => each !== '')) {
    if (line.startsWith('#')) {
      const [, kind, name = '', type = ''] = line.split(' ');
      if (kind === 'TYPE') {
        types.set(name, type);
      }
      continue;
    }
    const sample = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (sample === null) {
      throw new Error(`no sample: ${line}`);
    }
    const [, name = '', labels = '', value = ''] = sample;
    const pairs = [...labels.matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g)];
    samples.push({
      name,
      labels: new Map(pairs.map(([, label = '', text = '']) => [label, text])),
      value: value === '+Inf' ? Infinity : Number(value),
    });
  }
  return { types, samples };
}

/** The one sample with this name and these labels. */
export function sampleOf(
  { samples }: Exposition,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number | undefined {
  return samples.find(
    (sample) =>
      sample.name === name &&
      Object.entries(labels).every(([label, text]) => sample.labels.get(label) === text),
  )?.value;
}
