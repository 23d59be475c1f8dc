"""`python -m job_harness.doors.cli` is `job-harness`."""

import sys

from job_harness.doors.cli import main

sys.exit(main())
