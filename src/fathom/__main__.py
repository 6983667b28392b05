"""`python -m fathom` is the command `fathom`."""

import sys

from fathom.cli import main

sys.exit(main())
