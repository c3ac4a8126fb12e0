"""`dvc` commands of the tests, each a process of its own, forked from one that has imported DVC: the import takes a second.

Only commands that `subprocess.run` waits for, with their output captured: `dvc repro` of a run stays the command itself.
"""

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_OPTIONS = {"capture_output", "check", "cwd", "env", "errors", "text"}
_PRELOADED = [
    *("dvc.cachemgr", "dvc.cli.parser", "dvc.daemon", "dvc.data_cloud", "dvc.repo.artifacts", "dvc.repo.datasets"),
    *("dvc.repo.experiments", "dvc.repo.metrics", "dvc.repo.open_repo", "dvc.repo.plots", "dvc.stage.run"),
    *("dvc.utils.strictyaml", "dvc_data.index.checkout", "networkx", "pygit2"),
]


def patch(monkeypatch):
    """Let `subprocess.run` fork such a `dvc`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    multiprocessing.forkserver.ensure_running()  # here, and not with a test's environment and folder
    real = subprocess.run

    def run(words, *args, **options):
        if words[0] == "dvc" and options.get("capture_output") and options.keys() <= _OPTIONS:
            return _run(context, words, **options)
        return real(words, *args, **options)

    monkeypatch.setattr(subprocess, "run", run)


def _run(context, words, cwd=None, env=None, text=False, errors="strict", check=False, capture_output=True):
    env = dict(os.environ if env is None else env)
    if not shutil.which("dvc", path=env.get("PATH", os.defpath)):
        raise FileNotFoundError("dvc")
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("stdout", "stderr")]
        process = context.Process(target=_main, args=(words[1:], cwd or Path.cwd(), env, files))
        process.start()
        try:
            process.join()
        finally:
            process.kill()
        streams = [file.read_bytes() for file in files]
    done = subprocess.CompletedProcess(words, process.exitcode, *(s.decode(errors=errors) if text else s for s in streams))
    if check:
        done.check_returncode()
    return done


def _main(words, folder, environment, files):
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    from dvc.cli import main

    code = main(words) or 0
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
