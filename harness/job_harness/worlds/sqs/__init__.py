"""An SQS whose clock is ours: moto's, in this process. Must not know: connections, processes, jobs."""
