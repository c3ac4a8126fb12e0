"""`python -m tunetrail` is `tunetrail`."""

import sys

if not sys.flags.safe_path:  # else a datasets.py in the current folder would be imported instead of the package
    del sys.path[0]

from tunetrail.cli import main

main()
