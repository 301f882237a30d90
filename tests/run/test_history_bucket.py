"""A history in a bucket of a real S3 server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.embedded import EmbeddedS3
from harness.errors import WorldError
from harness.history.store import MOST_FILES, History
from harness.run.history import open_history
from tests.history.test_store import run, there

pytestmark = pytest.mark.usefixtures("bucket")


@pytest.fixture
def bucket(s3_server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)


def at(name: str) -> History:
    return open_history(f"s3://models/{name}")


def test_what_is_added_by_one_is_read_by_another() -> None:
    assert there(at("h1")) == []
    at("h1").add([run(1)], 1)
    at("h1").add([run(2)], 2)
    assert there(at("h1")) == [run(1).run, run(2).run]
    assert at("h1").read(("run",), "another series").table.num_rows == 0


def test_two_jobs_that_pack_at_once_lose_nothing() -> None:
    history, other = at("h2"), at("h2")
    for number in range(MOST_FILES):
        history._put(_table(number))
    names, once = history.place.names, [True]

    def meddled() -> list[str]:
        found = names()
        if once:
            once.clear()
            other.add([run(MOST_FILES)], 1)
        return found

    history.place.names = meddled  # type: ignore[method-assign]
    history.add([run(MOST_FILES + 1)], 2)
    assert there(at("h2")) == [run(number).run for number in range(MOST_FILES + 2)]
    assert len(other.place.names()) < MOST_FILES


def test_a_folder_goes_into_a_bucket(tmp_path: Path) -> None:
    folder = open_history(str(tmp_path / "h"))
    folder.add([run(1), run(2)], 1)
    assert at("h3").merge(folder)[0] == 2
    assert there(at("h3")) == [run(1).run, run(2).run]


def test_a_bucket_that_is_not_there_is_one_line() -> None:
    with pytest.raises(WorldError) as error:
        open_history("s3://nowhere-to-be-found/h").read()
    assert "\n" not in str(error.value)


def _table(number: int) -> Any:
    from harness.history.table import table_of

    return table_of([run(number)], number)
