/*
 * prom-client's metrics with values that are looked up when they are read, from counts that are kept
 * elsewhere as plain numbers. Used by metrics.ts; knows nothing of what is counted.
 */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';

export type Labels = Readonly<Record<string, string>>;
/** A metric's values as they are now. */
export type Series = Iterable<readonly [labels: Labels, value: number]>;

/** A histogram as it was counted: bounds in seconds, counts not cumulated, the last one above all bounds. */
export interface Buckets {
  readonly labels: Labels;
  readonly counts: readonly number[];
  readonly sum: number;
  readonly count: number;
}

/** The metrics of one registry of prom-client. Made once; each family is added with what reads its values. */
export class MetricFamilies {
  readonly registry = new Registry();

  counter(name: string, help: string, labelNames: readonly string[], read: () => Series): void {
    const counter = new Counter({
      name,
      help,
      labelNames: [...labelNames],
      registers: [this.registry],
      collect: () => {
        counter.reset();
        for (const [labels, value] of read()) {
          counter.inc(labels, value);
        }
      },
    });
  }

  gauge(name: string, help: string, labelNames: readonly string[], read: () => Series): void {
    const gauge = new Gauge({
      name,
      help,
      labelNames: [...labelNames],
      registers: [this.registry],
      collect: () => {
        gauge.reset();
        for (const [labels, value] of read()) {
          gauge.set(labels, value);
        }
      },
    });
  }

  /** @param bounds upper bounds of the buckets, ascending */
  histogram(
    name: string,
    help: string,
    labelNames: readonly string[],
    bounds: readonly number[],
    read: () => Iterable<Buckets>,
  ): void {
    const config = { name, help, labelNames: [...labelNames], buckets: [...bounds] };
    this.registry.registerMetric(new CountedHistogram(config, read));
  }
}

type Exported = Awaited<ReturnType<Histogram['get']>>;

/** prom-client's histogram takes single observations only; this one has been counted already. */
class CountedHistogram extends Histogram {
  /** Never observes anything; says how prom-client exports a histogram of this name. */
  private readonly empty: Histogram;
  private readonly bounds: readonly number[];
  private readonly read: () => Iterable<Buckets>;

  constructor(
    config: { name: string; help: string; labelNames: string[]; buckets: number[] },
    read: () => Iterable<Buckets>,
  ) {
    super({ ...config, registers: [] });
    this.empty = new Histogram({ ...config, registers: [] });
    this.bounds = config.buckets;
    this.read = read;
  }

  override async get(): Promise<Exported> {
    const exported = await this.empty.get();
    const values = [...this.read()].flatMap((each) => this.valuesOf(exported.name, each));
    return { ...exported, values };
  }

  /** What the registry calls in place of `get` for the text format. */
  getForPromString(): Promise<Exported> {
    return this.get();
  }

  private valuesOf(name: string, { labels, counts, sum, count }: Buckets): Exported['values'] {
    let below = 0;
    const buckets = this.bounds.map((bound, i) => {
      below += counts[i] ?? 0;
      return { metricName: `${name}_bucket`, labels: { ...labels, le: bound }, value: below };
    });
    return [
      ...buckets,
      { metricName: `${name}_bucket`, labels: { ...labels, le: '+Inf' }, value: count },
      { metricName: `${name}_sum`, labels, value: sum },
      { metricName: `${name}_count`, labels, value: count },
    ];
  }
}
