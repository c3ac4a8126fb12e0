"""A run's record -> the checkout as the run left it: its models, parameters and results.

Not covered: its code, which stays as it is, and data that no stage makes.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from tunetrail import UserError
from tunetrail.checkout import dvc, experiments, git, integrity, locks
from tunetrail.config import params

_FILES = (str(params.FILE), "dvc.lock")  # what is replaced besides the outputs
_BEFORE = Path("work/before-restore")  # _FILES as they were: it is there only while a restore goes on, or after its kill
_PATCH = "changes.patch"


def restore(root: Path, word: str) -> str:
    """Put the models, parameters and results of the run that `word` means back into the checkout; returns what it is called.

    Its code stays as it is, and so does every file that no stage makes: not by `dvc exp apply`, which writes the run's whole
    tree over the uncommitted changes of today. Where something cannot be had, all stays as it was.

    Raises:
        UserError: it is a sweep, or has no DVC experiment here, or its files are lost or damaged.
    """
    from tunetrail.tracking import mlflow_run, store

    run = store.single(root, word)
    name, freed = run.data.tags.get("dvc.experiment"), run.data.tags.get(mlflow_run.FREED)
    title = f"run {run.info.run_id} ({run.info.run_name})"
    if freed:
        raise UserError(
            f"run {run.info.run_id} was freed on {freed}. Make it again: tunetrail reproduce {run.info.run_id[:8]}"
        )
    if not name:
        ended = run.info.status == "FINISHED"
        fix = "Make it again: tunetrail reproduce" if ended else "What tries it again is in: tunetrail show"
        raise UserError(f"{title}, {run.info.status}: no DVC experiment was saved of it. {fix} {run.info.run_id[:8]}")
    commit = experiments.commit(root, name)
    with locks.exclusive_lock(root, why="and its files would be written over. Wait for it, and restore the run then."):
        with _undone(root):
            before = {name: (root / name).read_bytes() for name in _FILES if (root / name).is_file()}
            git.run(root, "restore", "--source", commit, "--worktree", "--", *_FILES)
            recorded, wanted = dvc.hashes(dvc.locked_stages(root)), dvc.outputs(root)
            outs = {path: recorded[path] for path in wanted if path in recorded}
            others = {path: outs[path] for path in integrity.changed(root, outs)}
            for path in others:
                if (root / path).exists():
                    (root / path).rename(_aside(root / path))
            integrity.restore(root, root, others, title, f"tunetrail reproduce {run.info.run_id[:8]}")
        replaced = [name for name in before if (root / name).read_bytes() != before[name]]
        if replaced:
            print(f"{' and '.join(replaced)} were another run's or your own, and are replaced by this run's")
        code = git.read_code(root, root / "work" / _PATCH)
    if code.digest != run.data.tags.get("code.digest"):
        print("the code is another than the run's: `dvc status` shows which stages that concerns")
    return f"{run.info.run_name} ({run.info.run_id[:8]})"


@contextlib.contextmanager
def _undone(root: Path) -> Iterator[None]:
    """Undo what the body does to `_FILES` and, by way of `_aside`, to outputs, if it raises. Where this process is killed,
    the next restore undoes it."""
    kept, partial = root / _BEFORE, (root / _BEFORE).with_suffix(".partial")
    if kept.is_dir():
        print("a restore was killed here: what it had replaced is put back first", flush=True)
    _undo(root)
    integrity.remove(partial)
    partial.mkdir(parents=True)
    for name in _FILES:
        if (root / name).is_file():
            shutil.copy2(root / name, partial)
    partial.rename(kept)
    try:
        yield
    except BaseException:  # Ctrl-C as well
        _undo(root)
        raise
    kept.rename(partial)  # whole: from here on nothing is undone
    _undo(root)
    integrity.remove(partial)


def _aside(path: Path) -> Path:
    """Where an output waits until the restore is done: on the same disk, whatever of the path is a link."""
    return path.with_name(f"{path.name}.before-restore")


def _undo(root: Path) -> None:
    """Put back what a restore that did not finish has replaced; remove what one that did has left aside."""
    kept, partial = root / _BEFORE, (root / _BEFORE).with_suffix(".partial")
    paths = [root / path for path in dvc.outputs(root) if _aside(root / path).exists()]
    if kept.is_dir():
        for path in paths:
            integrity.remove(path)
            _aside(path).rename(path)
        for name in _FILES:
            shutil.copy2(kept / name, root / name) if (kept / name).is_file() else integrity.remove(root / name)
        integrity.remove(partial)
        kept.rename(partial)
        integrity.remove(partial)
    for path in paths:
        integrity.remove(_aside(path))
