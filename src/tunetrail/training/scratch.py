"""A training's `output_dir`, which is emptied before it begins -> whether that is a folder of the training's own."""

import shutil
from pathlib import Path

from tunetrail import UserError

WORK = Path("work")
# What else is kept in folders below work/: by the stages, and by what looks at runs that are over.
_OTHERS = ("base", "compare", "evaluate_base", "evaluate_tuned", "raw", "recorded", "shared")


def check(output_dir: str | None, section: str, own: str | None = None) -> Path:
    """The folder `output_dir` of the config `section`, as it is given.

    `own` is the folder below work/ that is the stage's, and no other's.

    Raises:
        UserError: it leads, once links are followed, out of work/ or into what something else keeps there.
    """
    folder = Path(output_dir or "")
    fault = f"{section}.output_dir={folder}"
    if folder.is_absolute() or folder.parts[:1] != WORK.parts or len(folder.parts) < 2 or ".." in folder.parts:
        raise UserError(f"{fault}: it is emptied before training. Keep it in a folder below work/.")
    try:
        real, work = folder.resolve(), WORK.resolve()
    except (OSError, RuntimeError):  # links in a ring
        raise UserError(f"{fault}: its links lead nowhere. Remove them, or name another folder below work/.") from None
    if not real.is_relative_to(work) or real == work:
        raise UserError(
            f"{fault} leads to {real}, and is emptied before training. Name a folder below work/ without a link."
        )
    for name in _OTHERS:
        other = (WORK / name).resolve()
        if name != own and (real.is_relative_to(other) or other.is_relative_to(real)):
            raise UserError(f"{fault}: work/{name} is kept for something else. Name another folder below work/.")
    return folder


def empty(output_dir: str, section: str) -> Path:
    """The folder, emptied; it is looked at again, since a link may have been made since the run began.

    Raises:
        UserError: as `check`.
    """
    folder = check(output_dir, section)
    shutil.rmtree(folder, ignore_errors=True)
    return folder
