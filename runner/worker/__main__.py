"""`python -m runner.worker`."""

import sys

from runner.worker.attempt import main

sys.exit(main())
