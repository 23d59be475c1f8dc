import type { JobProcessor, JobResult } from "../../jobs/lib/processor-registry.ts";
import type { ToolJob } from "@repo/database";
import { deadline } from "../../jobs/lib/deadline.ts";

interface MyToolInput {
  text: string;
  options?: {
    format: "json" | "text";
  };
}

async function doWork(input: MyToolInput): Promise<unknown> {
  const response = await fetch("http://my-tool.example.com/convert", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(input),
    signal: deadline.getStore(),
  });
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

export const processMyTool: JobProcessor = async (job: ToolJob): Promise<JobResult> => {
  const input = job.input as MyToolInput;

  try {
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
