import index from "./lib/index.cjs";

export const { effect, step, Job, version } = index;
