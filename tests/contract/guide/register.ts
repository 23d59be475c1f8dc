// packages/api/modules/my-tool/lib/register.ts
import { registerProcessor } from "../jobs/lib/processor-registry";
import { processMyTool } from "./processor";

export function registerMyToolProcessor(): void {
  registerProcessor("my-tool", processMyTool);
}
