"""`python -m harness.cli` is `job-harness`."""

import sys

from harness.cli import main

sys.exit(main())
