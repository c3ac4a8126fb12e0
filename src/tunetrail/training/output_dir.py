"""A check that a training's `output_dir`, which is emptied unless the training is resumed, has a folder for itself."""

from pathlib import Path

from tunetrail import UserError

WORK = Path("work")
# Other folders below work/: of the stages, and of commands about finished runs.
_OTHERS = ("base", "compare", "evaluate_base", "evaluate_tuned", "raw", "recorded", "shared", "unfinished")


def check(output_dir: str | None, section: str, own: str | None = None) -> Path:
    """Check and return `output_dir` of the config `section`. `own` is the stage's own folder below work/, if it has one.

    Raises:
        UserError: it is, with links resolved, outside work/ or in another folder below it.
    """
    folder = Path(output_dir or "")
    fault = f"{section}.output_dir={folder}"
    if folder.is_absolute() or folder.parts[:1] != WORK.parts or len(folder.parts) < 2 or ".." in folder.parts:
        raise UserError(f"{fault}: it is emptied before training. Keep it in a folder below work/.")
    try:
        real, work = folder.resolve(), WORK.resolve()
    except (OSError, RuntimeError):  # links in a circle
        raise UserError(f"{fault}: its links are a circle. Remove them, or name another folder below work/.") from None
    if not real.is_relative_to(work) or real == work:
        raise UserError(
            f"{fault} leads to {real}, and is emptied before training. Name a folder below work/ without a link."
        )
    for name in _OTHERS:
        other = (WORK / name).resolve()
        if name != own and (real.is_relative_to(other) or other.is_relative_to(real)):
            raise UserError(f"{fault}: work/{name} has another use. Name another folder below work/.")
    return folder
