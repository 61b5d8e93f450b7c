/* vasync ships no typings; these cover what the daemon uses of it. */
declare module 'vasync' {
  type Callback<R> = (err?: Error | null, result?: R) => void;

  interface Operation {
    readonly funcname: string;
    readonly status: 'waiting' | 'pending' | 'ok' | 'fail';
  }

  /** The state of a running pipeline: what mdatactl shows as "in progress". */
  interface PipelineStatus {
    readonly operations: readonly Operation[];
    readonly ndone: number;
    readonly nerrors: number;
  }

  interface Queue<T> {
    readonly npending: number;
    readonly queued: readonly { readonly task: T }[];
    readonly pending: Readonly<Record<string, { readonly task: T }>>;
    push(task: T, callback?: (err?: Error | null) => void): number;
    length(): number;
    close(): void;
    kill(): void;
  }

  export function queue<T>(
    worker: (task: T, callback: (err?: Error | null) => void) => void,
    concurrency: number,
  ): Queue<T>;

  export function pipeline<A>(
    args: { funcs: readonly ((arg: A, callback: Callback<unknown>) => void)[]; arg: A },
    callback: (err: Error | null | undefined, results: PipelineStatus) => void,
  ): PipelineStatus;
}
