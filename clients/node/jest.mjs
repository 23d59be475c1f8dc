import door from "./lib/jest.cjs";

export const { jobHarness, ownWorkers, pinned, test, it, expect, effect, step } = door;
