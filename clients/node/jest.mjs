import door from "./lib/jest.cjs";

export const { jobHarness, ownWorkers, test, expect, effect, step } = door;
