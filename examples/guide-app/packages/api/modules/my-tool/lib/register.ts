import { registerProcessor } from "../../jobs/lib/processor-registry.ts";
import { processMyTool } from "./processor.ts";

export function registerMyToolProcessor(): void {
  registerProcessor("my-tool", processMyTool);
}
