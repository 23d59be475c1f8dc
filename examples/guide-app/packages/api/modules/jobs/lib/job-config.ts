export const JOB_TIMEOUT_MS = 600_000;
export const JOB_TIMEOUT_SECONDS = JOB_TIMEOUT_MS / 1000;
export const STUCK_JOB_TIMEOUT_MINUTES = 30;
export const RETENTION_DAYS = 7;

/** The form of this application after its races were found: see README.md. */
export const REPAIRED = process.env.GUIDE_APP_REPAIRED === "true";
