"""A job goes on from the newest whole checkpoint of its own features."""

from __future__ import annotations

from pathlib import Path

from adclick.stream.flink.checkpoints import checkpoint_folder, newest_checkpoint
from adclick.stream.settings import StreamSettings


def settings(window: str, group: str = "g") -> StreamSettings:
    features = {"clicks": {"kind": "count", "by": ["ip"], "window": window}}
    return StreamSettings.model_validate({"features": features, "kafka": {"group": group}})


def test_the_newest_of_all_jobs_that_is_whole(tmp_path: Path) -> None:
    assert newest_checkpoint(str(tmp_path / "nowhere")) is None
    for job, number, is_whole in (("b", 9, True), ("a", 10, True), ("a", 11, False), ("b", 2, True)):
        folder = tmp_path / job / f"chk-{number}"
        folder.mkdir(parents=True)
        if is_whole:
            (folder / "_metadata").write_text("x")
    (tmp_path / "a" / "shared").mkdir()
    assert newest_checkpoint(str(tmp_path)) == str(tmp_path / "a" / "chk-10")


def test_other_features_and_other_groups_have_other_folders(tmp_path: Path) -> None:
    folders = [checkpoint_folder(one, tmp_path) for one in (settings("1m"), settings("2m"), settings("1m", "h"))]
    assert len(set(folders)) == 3 and folders[0] == checkpoint_folder(settings("1m"), tmp_path)
    named = settings("1m").model_copy(
        update={"flink": settings("1m").flink.model_copy(update={"checkpoints": "s3://bucket/flink"})}
    )
    assert checkpoint_folder(named, tmp_path).startswith("s3://bucket/flink/g-")
