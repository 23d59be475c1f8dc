import type { ToolJob } from "@repo/database";

export interface JobResult {
  success: boolean;
  output?: unknown;
  error?: string;
}

export type JobProcessor = (job: ToolJob) => Promise<JobResult>;

const processors = new Map<string, JobProcessor>();

export function registerProcessor(toolSlug: string, processor: JobProcessor): void {
  processors.set(toolSlug, processor);
}

export function getProcessor(toolSlug: string): JobProcessor | undefined {
  return processors.get(toolSlug);
}

export function registerAllProcessors(): void {}
