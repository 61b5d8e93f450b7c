/*
 * prom-client's metrics with values that are read on demand from counts kept elsewhere as plain numbers.
 * Used by metrics-endpoint.ts; knows nothing of what is counted.
 */
import {
  Counter,
  Gauge,
  Histogram,
  Registry,
  Summary,
  type RegistryContentType,
} from 'prom-client';

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

/** The metrics of one prom-client registry. Each family is added together with the function that reads its values. */
export class MetricFamilies {
  readonly registry = new Registry<RegistryContentType>();

  /** @param openMetrics expose in the OpenMetrics text format instead of Prometheus' own */
  constructor(openMetrics = false) {
    if (openMetrics) {
      this.registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
    }
  }

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

  gauge(
    name: string,
    help: string,
    labelNames: readonly string[],
    read: () => Series | Promise<Series>,
  ): void {
    const gauge = new Gauge({
      name,
      help,
      labelNames: [...labelNames],
      registers: [this.registry],
      collect: async () => {
        const series = await read();
        gauge.reset();
        for (const [labels, value] of series) {
          gauge.set(labels, value);
        }
      },
    });
  }

  /** Quantiles of a recent window. */
  summary(
    name: string,
    help: string,
    read: () => readonly (readonly [quantile: number, value: number])[],
  ): void {
    this.registry.registerMetric(new ComputedSummary(name, help, read));
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

/** Values of quantiles that were computed elsewhere. */
class ComputedSummary extends Summary<'quantile'> {
  constructor(
    name: string,
    help: string,
    private readonly read: () => readonly (readonly [quantile: number, value: number])[],
  ) {
    super({ name, help, registers: [] });
  }

  override async get(): Promise<Awaited<ReturnType<Summary<'quantile'>['get']>>> {
    const exported = await super.get();
    const values = this.read().map(([quantile, value]) => ({ labels: { quantile }, value }));
    return { ...exported, values };
  }

  /** What the registry calls in place of `get` for the text format. */
  getForPromString(): ReturnType<ComputedSummary['get']> {
    return this.get();
  }
}

type Exported = Awaited<ReturnType<Histogram['get']>>;

/** prom-client's histogram takes single observations only; this one has been counted already. */
class CountedHistogram extends Histogram {
  /** Never observes anything; says how prom-client exports a histogram of this name. */
  private readonly empty: Histogram;
  private readonly bounds: readonly number[];

  constructor(
    config: { name: string; help: string; labelNames: string[]; buckets: number[] },
    private readonly read: () => Iterable<Buckets>,
  ) {
    super({ ...config, registers: [] });
    this.empty = new Histogram({ ...config, registers: [] });
    this.bounds = config.buckets;
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
