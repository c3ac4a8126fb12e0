"""Which folders and links a training may empty."""

import pytest

from tunetrail import UserError
from tunetrail.training import output_dir, resume


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    folder = tmp_path / "checkout"
    (folder / "work" / "shared" / "tokens").mkdir(parents=True)
    (folder / "data").mkdir()
    (tmp_path / "precious").mkdir()
    for path in (folder / "data", folder / "work" / "shared" / "tokens", tmp_path / "precious"):
        (path / "file").write_text("kept")
    monkeypatch.chdir(folder)
    return folder


def all_unchanged(checkout):
    paths = (checkout / "data", checkout / "work" / "shared" / "tokens", checkout.parent / "precious")
    return all((path / "file").read_text() == "kept" for path in paths)


@pytest.mark.parametrize("path", ["work/train", "work/deep/er", "work/nothing/yet", "./work/train", "work//train"])
def test_a_training_folder_below_work_is_emptied(checkout, path):
    (checkout / path).mkdir(parents=True)
    (checkout / path / "old").touch()
    resume.prepare(output_dir.check(path, "train"), {"train": {}})
    assert (checkout / path).is_dir()
    assert not (checkout / path / "old").exists()


@pytest.mark.parametrize(
    "path", ["precious", "/models", "work", ".", "work/..", "work/../data", "work/a/../../data", "", None]
)
def test_a_path_elsewhere_is_refused(checkout, path):
    with pytest.raises(UserError, match=r"train\.output_dir=.*Keep it in a folder below work/"):
        output_dir.check(path, "train")
    assert all_unchanged(checkout)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("../../precious", "work/link"),
        ("../../precious", "work/link/deeper"),
        ("../data", "work/link"),
        ("..", "work/link/data"),
        ("..", "work/link"),
        (".", "work/link"),
        (".", "work/link/shared"),
        ("shared", "work/link"),
        ("shared", "work/link/tokens"),
        ("shared/tokens", "work/link"),
        ("recorded", "work/link/1a84"),
    ],
)
def test_a_link_to_another_folder_is_refused_and_that_folder_is_not_emptied(checkout, target, path):
    (checkout / "work" / "link").symlink_to(target)
    with pytest.raises(UserError, match=rf"train\.output_dir={path}\b.*Name (another|a) folder below work/"):
        output_dir.check(path, "train")
    assert all_unchanged(checkout)


def test_a_circle_of_links_is_an_error(checkout):
    (checkout / "work" / "ring").symlink_to("ring")
    with pytest.raises(UserError, match="links are a circle"):
        output_dir.check("work/ring/train", "train")


@pytest.mark.parametrize(
    "name", ["shared", "shared/tokens", "recorded/1a84", "compare", "evaluate_base", "evaluate_tuned", "base"]
)
def test_a_folder_with_another_use_is_refused(checkout, name):
    with pytest.raises(UserError, match=rf"work/{name.partition('/')[0]} has another use"):
        output_dir.check(f"work/{name}", "train")
    assert all_unchanged(checkout)


def test_the_stage_base_trains_in_its_own_folder_only(checkout):
    assert str(output_dir.check("work/base/trained", "base.make.train", own="base")) == "work/base/trained"
    with pytest.raises(UserError, match=r"base\.make\.train\.output_dir=work/shared"):
        output_dir.check("work/shared/a", "base.make.train", own="base")


def test_work_and_its_shared_folder_may_be_links_to_another_disk(checkout):
    (checkout / "work").rename(checkout.parent / "disk")
    (checkout / "work").symlink_to(checkout.parent / "disk")
    (checkout / "work" / "train").mkdir()
    (checkout / "work" / "train" / "old").touch()
    resume.prepare(output_dir.check("work/train", "train"), {"train": {}})
    assert not (checkout / "work" / "train" / "old").exists()
    (checkout / "work" / "shared").rename(checkout.parent / "shared")
    (checkout / "work" / "shared").symlink_to(checkout.parent / "shared")  # as in a worktree of a sweep
    output_dir.check("work/train", "train")
    (checkout / "work" / "way").symlink_to("shared")
    for path in ("work/shared", "work/way/tokens"):
        with pytest.raises(UserError, match="below work/"):
            output_dir.check(path, "train")
    assert (checkout.parent / "shared" / "tokens" / "file").exists()
