import { AsyncLocalStorage } from "node:async_hooks";

/** The signal that ends the work of the job at hand. */
export const deadline = new AsyncLocalStorage<AbortSignal>();
