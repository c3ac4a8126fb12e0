"""Where DVC's cache is, and files that come from the cache of another checkout.

`mlflow run ADDRESS` makes a clone in the system's temporary folder and runs there: what its runs make is kept elsewhere.
"""

import re
import shutil
import socket
import tempfile
from collections.abc import Iterable
from pathlib import Path

import platformdirs

from tunetrail.checkout import dvc, dvc_config

_MADE_BY_MLFLOW = re.compile(r"tmp[a-z0-9_]{8}")  # tempfile.mkdtemp's name, in mlflow.projects.utils._fetch_project
_OTHER = "other-cache"  # the name of a remote


def kept() -> Path:
    """Return the folder of DVC's cache of all clones that `mlflow run ADDRESS` made."""
    return platformdirs.user_data_path("tunetrail") / "dvc-cache"


def is_temporary(root: Path) -> bool:
    """Return whether `root` is in a clone that `mlflow run ADDRESS` made, which nobody keeps."""
    path, above = root.resolve(), Path(tempfile.gettempdir()).resolve()
    below = path.relative_to(above).parts if path.is_relative_to(above) else ()
    return bool(below and _MADE_BY_MLFLOW.fullmatch(below[0]))


def keep(root: Path) -> None:
    """Have DVC in `root`, if that `is_temporary`, keep its cache in `kept`, unless its config says where."""
    if is_temporary(root) and dvc_config.cache_folder(root) == root / ".dvc" / "cache":
        dvc.run(root, "config", "--local", "cache.dir", str(kept()))


def location(root: Path) -> str:
    """Return where the cache of `root` is, as host:folder."""
    return f"{socket.gethostname()}:{dvc_config.cache_folder(root).resolve()}"


def pull(folder: Path, cache: Path, outs: Iterable[str]) -> None:
    """Put the paths `outs`, which `folder`/dvc.lock names, into `folder` and its cache, from another checkout's `cache`.

    Raises:
        UserError: DVC failed, for example because that cache does not have them.
    """
    system = dvc_config.system_config()
    with tempfile.TemporaryDirectory() as config:
        # A cache is laid out as a remote is. The system's config is replaced for this call, so it is copied.
        file = Path(config) / "config"
        if system.is_file():
            shutil.copy(system, file)
        with file.open("a", encoding="utf-8") as text:
            text.write(f"""\n['remote "{_OTHER}"']\nurl = "{cache}"\n""")
        words = ["pull", "--force", "--remote", _OTHER, *outs]
        dvc.run(folder, *words, variables={"DVC_SYSTEM_CONFIG_DIR": config})
