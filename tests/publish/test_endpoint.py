"""Addresses: what is taken, what is refused before anything begins, and what OpenTelemetry's variables mean."""

from __future__ import annotations

import pytest

from harness.publish import Endpoint, address, otlp_endpoint
from harness.publish.pushgateway import group


@pytest.mark.parametrize("text", ["http://host:9091", "https://user:secret@host/prefix", "http://[::1]:9091/"])
def test_addresses(text: str) -> None:
    assert address(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "host:9091", "grpc://host:4317", "http://", "http://host:port", "http://[::1", "http://ho st", "http://h\n"],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="expected an address such as"):
        address(text)


@pytest.mark.parametrize(
    "text",
    [
        "htp://user:secret@host",
        "http://user:se secret@host",
        "http://user:se/secret@host:port",
        "http://ho st?key=secret",
    ],
)
def test_a_mistake_in_an_address_tells_no_secret(text: str) -> None:
    with pytest.raises(ValueError, match=r"http://host:9091, found '.*ho") as raised:
        address(text)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://host:4318", "http://host:4318/v1/metrics"),
        ("http://host:4318/", "http://host:4318/v1/metrics"),
        ("https://host/otlp?tenant=a", "https://host/otlp/v1/metrics?tenant=a"),
        ("http://host:4318/v1/metrics", "http://host:4318/v1/metrics"),
    ],
)
def test_otlp_at_an_address(given: str, url: str) -> None:
    theirs = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://other", "OTEL_EXPORTER_OTLP_HEADERS": "a=b"}
    assert otlp_endpoint(given, theirs) == Endpoint(url)


def test_otlp_by_the_environment() -> None:
    found = otlp_endpoint(
        None,
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "https://host/base/",
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=se%3Dcret, x-tenant = canary ,",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        },
    )
    assert found == Endpoint("https://host/base/v1/metrics", {"api-key": "se=cret", "x-tenant": "canary"})
    assert "cret" not in repr(found)


def test_variables_for_metrics_come_first_and_their_address_is_taken_as_it_is() -> None:
    found = otlp_endpoint(
        None,
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://all",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://metrics/in",
            "OTEL_EXPORTER_OTLP_HEADERS": "a=all",
            "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "a=metrics",
        },
    )
    assert found == Endpoint("http://metrics/in", {"a": "metrics"})


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "give an address, or set OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "host:4318"}, "expected an address"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://host", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "only http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://host", "OTEL_EXPORTER_OTLP_HEADERS": "secret"}, "expected key=value"),
    ],
)
def test_what_the_environment_may_not_say(environment: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        otlp_endpoint(None, environment)


@pytest.mark.parametrize("headers", ["api-key=secret%0Ax", "api-key=s%C3%A9cret", "bearer secret=x", "%0A=secret"])
def test_headers_that_cannot_be_sent_are_told_before_and_without_what_they_hold(headers: str) -> None:
    with pytest.raises(ValueError, match=r"OTEL_EXPORTER_OTLP_HEADERS: .* nothing that a header can hold") as raised:
        otlp_endpoint(None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://host", "OTEL_EXPORTER_OTLP_HEADERS": headers})
    assert "cret" not in str(raised.value)


def test_people_are_shown_no_secrets() -> None:
    assert Endpoint("https://user:secret@host:9091/a?token=secret").shown == "https://host:9091/a"


@pytest.mark.parametrize(
    ("scenario", "path"),
    [
        ("fp8-canary", "/metrics/job/triton-canary/scenario/fp8-canary"),
        ("a b?", "/metrics/job/triton-canary/scenario/a%20b%3F"),
        ("team/llm", "/metrics/job/triton-canary/scenario@base64/dGVhbS9sbG0"),
        ("", "/metrics/job/triton-canary/scenario@base64/="),
        ("..", "/metrics/job/triton-canary/scenario@base64/Li4"),
    ],
)
def test_groups(scenario: str, path: str) -> None:
    assert group("http://host:9091/", scenario) == f"http://host:9091{path}"


def test_the_address_of_a_group_is_taken_as_it_is() -> None:
    assert group("http://host/metrics/job/mine/branch/main", "fp8-canary") == "http://host/metrics/job/mine/branch/main"
