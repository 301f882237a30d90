"""A configuration from the store, under the version policy that is in force here."""

from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.triton.config_merge import keep_version_policy

HERE = b'name: "m"\nversion_policy: { specific { versions: [1, 2] } }  # ours\n'
THERE = b'# theirs\r\nname: "m"\r\nversion_policy { latest { num_versions: 3 } }\r\nmax_batch_size: 8\r\n'


def test_the_text_is_theirs_and_the_policy_ours() -> None:
    merged = keep_version_policy(HERE, THERE)
    assert merged == THERE.replace(
        b"version_policy { latest { num_versions: 3 } }", b"version_policy: { specific { versions: [1, 2] } }"
    )


def test_a_policy_that_only_we_have_is_added() -> None:
    assert keep_version_policy(HERE, b'name: "m"') == (
        b'name: "m"\nversion_policy: { specific { versions: [1, 2] } }\n'
    )


def test_a_policy_that_only_they_have_goes() -> None:
    assert b"latest" not in keep_version_policy(b'name: "m"\n', THERE)
    assert keep_version_policy(b'name: "m"\n', b'name: "m"\n') == b'name: "m"\n'


@pytest.mark.parametrize("bad", [b"name: {", b"\xff\xfe"])
def test_what_is_no_configuration_is_refused(bad: bytes) -> None:
    for pair in ((bad, THERE), (HERE, bad)):
        with pytest.raises(UsageError, match="is not a model configuration"):
            keep_version_policy(*pair)
