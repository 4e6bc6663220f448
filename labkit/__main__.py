"""``python -m labkit``, the same as ``labkit``."""

import sys

from labkit.cli import main

sys.exit(main())
