"""How the supervisor starts a worker: `python -P -m shipworthy.serve ORDER`."""

import sys

from shipworthy.serve.worker import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
