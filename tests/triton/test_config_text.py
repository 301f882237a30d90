"""Editing `version_policy` in config.pbtxt: that text changes, and no other byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError, WorldError
from harness.triton import Control, config_diff, edit_version_policy, persist_versions, read_config, write_config
from tests.triton.conftest import GOOD, MODEL

WANTED = "specific { versions: [1, 3] }"
# A text with @ where the choice of the policy stands, and what may stand there.
SURROUNDINGS = [
    "version_policy: { @ }\n",
    "version_policy { @ }",
    "version_policy: < @ >\n",
    "version_policy{@}",
    'name: "m"\nversion_policy {\n  @\n}\nbackend: "python"\n',
    'name: "m"\r\nversion_policy {\r\n  @\r\n}\r\n',
    "version_policy { # which ones\n  # not } this\n  @ # nor { that\n}\n",
    '# version_policy { latest { num_versions: 9 } }\nname: "version_policy: { all {} }"\nversion_policy: { @ };\n',
    "name: 'it\\'s { \\\\'\nversion_policy: { @ },\nbackend: \"python\" # }\n",
    'parameters { key: "version_policy" value: { string_value: "{ \\" } version_policy {" } }\nversion_policy { @ }\n',
    'parameters: [ { key: "a" value { string_value: "x" "y}" } } ]\nversion_policy { @ }\n'
    'input [ { name: "I" '
    "data_type: TYPE_FP32 dims: [ -1, 16 ] } ]\n",
    "version_policy\n  # why\n  : { @ }\nmax_batch_size: 4",
]
CHOICES = [
    "specific { versions: [1, 2] }",
    "specific: { versions: [ 1 ] }",
    "specific { versions: 1 versions: 2 }",
    "specific {\n versions: 1,\n versions: 2;\n}",
    "specific < versions: [] >",
    "specific {}",
    "latest { num_versions: 1 }",
    "latest: { num_versions: 2 },",
    "all {}",
    "all: { };",
]


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("surrounding", SURROUNDINGS)
def test_only_the_choice_changes(surrounding: str, choice: str) -> None:
    mark = choice[-1] if choice[-1] in ",;" else ""
    edited = edit_version_policy(surrounding.replace("@", choice), [3, 1, 3])
    assert edited == surrounding.replace("@", WANTED + mark)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"version_policy: {{ {WANTED} }}\n"),
        ('name: "m"', f'name: "m"\nversion_policy: {{ {WANTED} }}\n'),
        ('name: "m" # { \r\n', f'name: "m" # {{ \r\nversion_policy: {{ {WANTED} }}\r\n'),
        ("version_policy {}\n", f"version_policy {{ {WANTED} }}\n"),
        ("version_policy { # none\n}\n", f"version_policy {{ {WANTED} # none\n}}\n"),
        (
            "version_policy {\n  specific { # canary\n    versions: [1, 2] # both\n  }\n}\n",
            f"version_policy {{\n  # canary\n  # both\n  {WANTED}\n}}\n",
        ),
        (
            "# version_policy { all {} }\n",
            f"# version_policy {{ all {{}} }}\nversion_policy: {{ {WANTED} }}\n",
        ),
    ],
)
def test_what_is_added_and_kept(before: str, after: str) -> None:
    assert edit_version_policy(before, [1, 3]) == after


def test_again_changes_nothing() -> None:
    once = edit_version_policy('name: "m"\n', [1, 3])
    assert edit_version_policy(once, [3, 1]) == once


@pytest.mark.parametrize("text", ["name: ", "nmae: 'm'", "version_policy { specific { versions: x } }", "{"])
def test_what_is_no_configuration_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"config\.pbtxt: is not a model configuration") as caught:
        persist_versions(path, [1])
    assert "\n" not in str(caught.value)
    assert path.read_text() == text
    with pytest.raises(UsageError):
        read_config(path)


def test_an_edit_that_would_change_anything_else_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_text('name: "m"\n')
    for edited in (f'name: "n" version_policy {{ {WANTED} }}', 'name: "m" version_policy { specific { versions: 1 } }'):
        monkeypatch.setattr("harness.triton.config_text._append", lambda *_, edited=edited: edited)
        with pytest.raises(WorldError, match="cannot be edited safely: write specific"):
            persist_versions(path, [1, 3])
    assert path.read_text() == 'name: "m"\n'


def test_no_versions_and_no_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no versions"):
        edit_version_policy("", [])
    with pytest.raises(UsageError, match="does not exist"):
        persist_versions(tmp_path / "config.pbtxt", [1])
    assert read_config(tmp_path / "config.pbtxt") == {}


def test_file_is_replaced_whole_with_its_mode(tmp_path: Path) -> None:
    real, link = tmp_path / "real.pbtxt", tmp_path / "config.pbtxt"
    real.write_bytes(b'name: "m"\r\n')
    real.chmod(0o640)
    link.symlink_to(real)
    before, after = persist_versions(link, [2])
    assert before == 'name: "m"\r\n'
    assert after == before + "version_policy: { specific { versions: [2] } }\r\n"
    assert real.read_bytes() == after.encode()
    assert real.stat().st_mode & 0o777 == 0o640
    assert link.is_symlink()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["config.pbtxt", "real.pbtxt"]
    write_config(link, before)
    assert real.read_bytes() == before.encode()


def test_the_diff_for_those_who_must_write_it_themselves(tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_text('name: "m" # mine\nversion_policy { all {} }')
    assert config_diff(path, [2, 1]) == (
        "--- a/config.pbtxt\n+++ b/config.pbtxt\n@@ -1,2 +1,2 @@\n"
        ' name: "m" # mine\n'
        "-version_policy { all {} }\n\\ No newline at end of file\n"
        "+version_policy { specific { versions: [1, 2] } }\n\\ No newline at end of file\n"
    )
    before = path.read_text()
    persist_versions(path, [1, 2])
    assert config_diff(path, [1, 2]) == ""
    assert before != path.read_text()
    with pytest.raises(UsageError, match="does not exist"):
        config_diff(tmp_path / "nosuch", [1])


def test_file_that_cannot_be_written_stays(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match="cannot be written"):
        write_config(tmp_path / "nosuch" / "config.pbtxt", "")


@pytest.mark.triton
def test_a_plain_load_follows_the_file(control: Control, repository: Path) -> None:
    """What a restarted server would serve: no override is left after an unload."""
    config = repository / MODEL / "config.pbtxt"
    before, _ = persist_versions(config, [1, GOOD])
    try:
        control.unload(MODEL)
        control._server.load(MODEL, None, 60)
        assert control.loaded(MODEL) == (1, GOOD)
    finally:
        write_config(config, before)
