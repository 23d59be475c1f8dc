// packages/api/modules/my-tool/lib/processor.ts
import type { JobProcessor, JobResult } from "../jobs/lib/processor-registry";
import type { ToolJob } from "@repo/database";

interface MyToolInput {
  text: string;
  options?: {
    format: "json" | "text";
  };
}

export const processMyTool: JobProcessor = async (
  job: ToolJob,
): Promise<JobResult> => {
  const input = job.input as MyToolInput;

  try {
    // Process the job
    const result = await doWork(input);

    return {
      success: true,
      output: result,
    };
  } catch (error) {
    return {
      success: false,
      error: error instanceof Error ? error.message : String(error),
    };
  }
};
