"""`python -m jaxcodec.cli`, the same as `jaxcodec`."""

import sys

from jaxcodec.cli import main

sys.exit(main())
