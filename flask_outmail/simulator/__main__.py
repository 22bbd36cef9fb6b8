"""`python -m flask_outmail.simulator`."""

import sys

from flask_outmail.simulator.command import main

if __name__ == "__main__":
    sys.exit(main())
