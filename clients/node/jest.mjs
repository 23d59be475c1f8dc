import door from "./lib/jest.cjs";

export const { jobHarness, test, expect, effect, step } = door;
