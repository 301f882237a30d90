"""Quantities: what is read, what is refused, and that writing gives back what was read."""

import pytest

from harness import units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90.0),
        ("2m", 120.0),
        ("250ms", 0.25),
        ("1m30s", 90.0),
        ("1.5h", 5400.0),
        ("1d", 86400.0),
        ("80us", 8e-5),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize("value", ["90", 90, "s", "-1s", "1 parsec", "", None, True, "1s ", "٣s", ["1s"], "1e3s"])
def test_what_is_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 90s, 2m or 250ms, found "):
        units.parse_duration(value)


@pytest.mark.parametrize(
    ("text", "rate"), [("1/s", 1.0), ("30/m", 0.5), ("0.5/s", 0.5), ("36/h", 0.01), ("12 / min", 0.2)]
)
def test_rates(text: str, rate: float) -> None:
    assert units.parse_rate(text) == rate


@pytest.mark.parametrize("value", [0, "0/s", "0.0/m", "1", 1, "-1/s", "1/day", None])
def test_what_is_no_rate(value: object) -> None:
    with pytest.raises(ValueError, match="expected a rate above 0 such as 1/s or 30/m, found "):
        units.parse_rate(value)


def test_percentages_are_exact() -> None:
    assert units.parse_share("10%") == 0.1
    assert units.parse_share("0%") == 0.0
    assert units.parse_share("100%") == 1.0
    assert units.parse_relative("7%") == 0.07
    assert units.parse_relative("150%") == 1.5
    assert units.parse_points("3pp") == 0.03


@pytest.mark.parametrize("value", ["110%", "-5%", 0.1, 10, "10", "ten", None])
def test_what_is_no_share(value: object) -> None:
    with pytest.raises(ValueError, match="expected a share from 0% to 100%, found "):
        units.parse_share(value)


@pytest.mark.parametrize("value", ["-1%", "10", 10, "3pp"])
def test_what_is_no_relative_margin(value: object) -> None:
    with pytest.raises(ValueError, match="expected a percentage such as 10%, found "):
        units.parse_relative(value)


@pytest.mark.parametrize("value", ["0pp", "100pp", "3%", 3])
def test_what_is_no_number_of_points(value: object) -> None:
    with pytest.raises(ValueError, match="expected percentage points such as 1pp"):
        units.parse_points(value)


@pytest.mark.parametrize("value", [-1, "0.06", True, float("nan"), float("inf")])
def test_what_is_no_number(value: object) -> None:
    with pytest.raises(ValueError, match="expected a number from 0 up"):
        units.parse_number(value)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (90.0, "90s"),
        (0.25, "250ms"),
        (3600.0, "1h"),
        (90000.0, "25h"),
        (86400.0, "1d"),
        (1.5, "1.5s"),
        (0.0, "0s"),
    ],
)
def test_durations_are_written_as_people_do(number: float, text: str) -> None:
    assert units.format_duration(number) == text
    assert units.parse_duration(text) == number


@pytest.mark.parametrize("rate", [1.0, 0.5, 1 / 3, 1 / 7, 0.001, 1 / 3600, 200.0, 12345.678])
def test_rates_come_back(rate: float) -> None:
    assert units.parse_rate(units.format_rate(rate)) == pytest.approx(rate, rel=1e-12)
    assert units.format_rate(1 / 3) == "20/m"


@pytest.mark.parametrize("percent", range(1, 100))
def test_every_whole_percentage_comes_back(percent: int) -> None:
    share = units.parse_share(f"{percent}%")
    assert share == percent / 100
    assert units.format_percent(share) == f"{percent}%"
    assert units.format_points(units.parse_points(f"{percent}pp")) == f"{percent}pp"
