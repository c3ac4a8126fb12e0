"""The properties of a recorded run."""

from tests.recorded_runs import run


def test_a_sweep_is_distinguished_from_its_jobs():
    assert run("a", tags={"sweep": "sweep-1"}).is_sweep
    assert not run("a", parent="b", tags={"sweep": "sweep-1"}).is_sweep
    assert not run("a").is_sweep


def test_a_run_has_a_title_a_short_id_and_a_checkout():
    recorded = run("0123456789abcdef", "demo", tags={"tunetrail.checkout": "host:/home/ann/a:b"})
    assert (recorded.title, recorded.short_id) == ("run 0123456789abcdef (demo)", "01234567")
    assert recorded.checkout == ("host", "/home/ann/a:b")
    assert run("a").checkout == ("", "")
    assert recorded.finished
    assert not run("a", status="KILLED").finished
