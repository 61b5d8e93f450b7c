/* vasync ships no typings; these cover what the daemon uses of it. */
declare module 'vasync' {
  /** Its name is that of the operation. */
  type Step = (arg: undefined, callback: (err?: Error | null) => void) => void;

  /** The state of a running pipeline: what mdatactl shows as "in progress". */
  interface PipelineStatus {
    readonly operations: readonly {
      readonly funcname: string;
      readonly status: 'waiting' | 'pending' | 'ok' | 'fail';
    }[];
    readonly ndone: number;
  }

  export function pipeline(
    args: { funcs: readonly Step[] },
    callback: (err: Error | null | undefined) => void,
  ): PipelineStatus;
}
