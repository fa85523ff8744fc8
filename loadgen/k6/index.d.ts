/**
 * The module k6/x/statequake: operations that statequake judges.
 *
 *     import statequake from 'k6/x/statequake';
 */
declare module 'k6/x/statequake' {
  /** A duration with its unit, as in '30s' or '250ms', or a number of milliseconds. */
  export type Duration = string | number;

  export interface ConnectOptions {
    /** The URL of a node, or of several: 'http://127.0.0.1:7001'. */
    url?: string | string[];
    /** The same as url. */
    urls?: string | string[];
    /** The directory of a running harness, such as that of `statequake cluster up`. */
    run?: string;
    /** Of an operation, retries included, and of its wait to be sent. Default '10s'. */
    timeout?: Duration;
    /** Attempts after one that may have had an effect. Default 3. */
    retries?: number;
    /** Operations on their way at a time; the others wait. Default 1024. */
    maxConns?: number;
  }

  /**
   * - ok: answered, a business rejection too
   * - fail: certainly had no effect
   * - info: may have had an effect, now or later
   * - unsent: was due and never left
   */
  export type Outcome = 'ok' | 'fail' | 'info' | 'unsent';

  export interface Result {
    ok: boolean;
    outcome: Outcome;
    /** What the system answered; only if ok. */
    result?: any;
    /** Version of the entity; only if ok and told. */
    version?: number;
    /** Witness digest at that version. */
    digest?: string;
    /** The node that executed it, where known. */
    node?: string;
    /** Why it is not ok. */
    error?: string;
    /** Milliseconds from the instant at which it was due; none if unsent. */
    duration?: number;
  }

  export interface InvokeOptions {
    /** What pacer.next() returned: the operation counts from when it was due. */
    due?: Slot;
  }

  export interface Client {
    /** Carries an operation out. The promise is rejected only if it could not be tried. */
    invoke(entity: string, key: string, command: string, args?: object | null, options?: InvokeOptions): Promise<Result>;
    /** The same, and blocks until it is complete. */
    invokeSync(entity: string, key: string, command: string, args?: object | null, options?: InvokeOptions): Result;
  }

  export interface PacerOptions {
    /** As in '1000/s', '30/m'. Default: load.arrivals of the scenario, if one started the script. */
    rate?: string;
    /** From the first next(). Default: the length of the scenario's load. */
    duration?: Duration;
    /** How late an operation may still be taken; then it is unsent. Default '10s', or load.timeout. */
    timeout?: Duration;
    /** Pacers of one name are one, for all virtual users. Default 'default'. */
    name?: string;
  }

  /** One operation that is due. It can be sent once. */
  export interface Slot {
    /** Its number, from 0. */
    readonly n: number;
    /** Milliseconds from the first operation to the instant at which it was due. */
    readonly due: number;
    /** Milliseconds by which the pacer was late to hand it out. */
    readonly lag: number;
  }

  export interface Pacer {
    /** Waits until the next operation is due; null when there is none any more. */
    next(): Slot | null;
  }

  /** Without options: the scenario that started the script, else STATEQUAKE_URL or STATEQUAKE_RUN. */
  export function connect(options?: ConnectOptions): Client;
  /** An arrival process that all virtual users share. */
  export function pacer(options?: PacerOptions): Pacer;
  /** Tells this run from others: a key that it is a part of is a new one. */
  export function tag(): string;

  const statequake: { connect: typeof connect; pacer: typeof pacer; tag: typeof tag };
  export default statequake;
}
