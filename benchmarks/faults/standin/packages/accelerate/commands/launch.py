"""`python -m accelerate.commands.launch ... CONFIG`: starts the trainer as its child and ends with its code."""

import subprocess
import sys

if __name__ == "__main__":
    sys.exit(subprocess.run([sys.executable, "-m", "accelerate.commands.trainer", sys.argv[-1]]).returncode)
