"""A run's record -> its models, parameters and results in the checkout, as the run left them. The code stays as it is."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from tunetrail import UserError
from tunetrail.checkout import dvc, experiments, git, integrity, locks
from tunetrail.config import params
from tunetrail.tracking import store, tags
from tunetrail.tracking.recorded import RecordedRun

_FILES = (str(params.FILE), "dvc.lock")  # replaced together with the outputs
_BEFORE = Path("work/before-restore")  # _FILES as they were: it exists only during a restore, or after one was killed
_PATCH = "changes.patch"


def restore(root: Path, reference: str) -> str:
    """Put the models, parameters and results of the run that `reference` names into the checkout; return the run's name.

    The code stays as it is, and so does every file that no stage makes; `dvc exp apply` would write the run's whole tree
    over today's uncommitted changes. If something cannot be restored, nothing changes.

    Raises:
        UserError: it is a sweep, or has no DVC experiment here, or its files are lost or damaged.
    """
    run = store.single(root, reference)
    reproduce = f"tunetrail reproduce {run.short_id}"
    if tags.FREED in run.tags:
        raise UserError(f"run {run.id} was freed on {run.tags[tags.FREED]}. Make it again: {reproduce}")
    experiment = run.tags.get(tags.DVC_EXPERIMENT)
    if not experiment:
        fix = f"Make it again: {reproduce}" if run.finished else f"How to try it again: tunetrail show {run.short_id}"
        raise UserError(f"{run.title}, {run.status}: it has no DVC experiment. {fix}")
    with locks.exclusive_lock(root, why="and its files would be overwritten. Wait for it, and restore the run then."):
        with _undone_on_error(root):
            before = {name: (root / name).read_bytes() for name in _FILES if (root / name).is_file()}
            _take_files(root, run, experiment)
            recorded = dvc.hashes(dvc.locked_stages(root))
            outs = {path: recorded[path] for path in dvc.outputs(root) if path in recorded}
            changed = {path: outs[path] for path in integrity.changed(root, outs)}
            for path in changed:
                if (root / path).exists():
                    (root / path).rename(_aside(root / path))
            integrity.restore(root, root, changed, run.title, reproduce, run.dvc_cache)
        replaced = [name for name in before if (root / name).read_bytes() != before[name]]
        if replaced:
            print(f"{' and '.join(replaced)} were another run's or your own, and are replaced by this run's")
        code = git.read_code(root, root / "work" / _PATCH)
    if code.digest != run.tags.get(tags.CODE_DIGEST):
        print("the code differs from the run's: `dvc status` shows which stages that affects")
    return f"{run.name} ({run.short_id})"


def _take_files(root: Path, run: RecordedRun, experiment: str) -> None:
    """Replace `_FILES` by the run's: from its DVC experiment, or from its record if that is in another repository."""
    try:
        commit = experiments.commit(root, experiment)
    except UserError:
        if store.download(root, run.id, _FILES, root):
            raise
        return
    git.run(root, "restore", "--source", commit, "--worktree", "--", *_FILES)


@contextlib.contextmanager
def _undone_on_error(root: Path) -> Iterator[None]:
    """If the body raises, undo what it did to `_FILES` and, through `_aside`, to outputs. If this process is killed, the
    next restore undoes it."""
    before, partial = root / _BEFORE, (root / _BEFORE).with_suffix(".partial")
    if before.is_dir():
        print("an earlier restore was killed here: what it had replaced is put back first", flush=True)
    _undo(root)
    integrity.remove(partial)
    partial.mkdir(parents=True)
    for name in _FILES:
        if (root / name).is_file():
            shutil.copy2(root / name, partial)
    partial.rename(before)
    try:
        yield
    except BaseException:  # Ctrl-C as well
        _undo(root)
        raise
    before.rename(partial)  # at once: from here on nothing is undone
    _undo(root)
    integrity.remove(partial)


def _aside(path: Path) -> Path:
    """Return where an earlier output is kept until the restore is done: in the same folder, so on the same disk."""
    return path.with_name(f"{path.name}.before-restore")


def _undo(root: Path) -> None:
    """Put back what a restore that did not finish has replaced; remove what one that did finish has left aside."""
    before, partial = root / _BEFORE, (root / _BEFORE).with_suffix(".partial")
    paths = [root / path for path in dvc.outputs(root) if _aside(root / path).exists()]
    if before.is_dir():
        for path in paths:
            integrity.remove(path)
            _aside(path).rename(path)
        for name in _FILES:
            if (before / name).is_file():
                shutil.copy2(before / name, root / name)
            else:
                integrity.remove(root / name)
        integrity.remove(partial)
        before.rename(partial)
        integrity.remove(partial)
    for path in paths:
        integrity.remove(_aside(path))
