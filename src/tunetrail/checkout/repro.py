"""`python -m tunetrail.checkout.repro TARGETS`: `dvc repro TARGETS` without the hints that DVC prints between stages.

Its errors, and which stage it runs or skips, are printed as ever.
"""

import logging
import sys

from dvc.cli import main
from dvc.ui import ui

if __name__ == "__main__":
    # That dvc.lock is written, that it could be added to git, and that the lock of a killed process is removed.
    for name in ("dvc.dvcfile", "dvc.repo.scm_context", "dvc.rwlock"):
        logging.getLogger(name).setLevel(logging.ERROR)
    write = ui.write
    # On stdout `dvc repro` only advises to push, also where there is no remote.
    ui.write = lambda *text, **options: write(*text, **options) if options.get("stderr") else None
    sys.exit(main(["repro", *sys.argv[1:]]))
