"""`python -m tunetrail` is `tunetrail`."""

from tunetrail.cli import main

main()
