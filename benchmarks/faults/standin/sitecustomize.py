"""Puts the stand-in before the installed packages in the processes of `accelerate launch`. Python imports this by itself."""

import sys
from pathlib import Path

if {"accelerate.commands.launch", "accelerate.commands.trainer"} & {*sys.orig_argv}:
    sys.path.insert(0, str(Path(__file__).parent / "packages"))
