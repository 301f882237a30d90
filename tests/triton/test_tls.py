"""TLS, client certificates, tokens and restricted protocols: Triton's own gRPC, and its HTTP behind HAProxy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trustme

from harness.embedded import EmbeddedServer, build_repository
from harness.errors import CanaryError, Unreachable
from harness.triton import Access, Control, Refused, addresses, named
from tests.triton.conftest import GOOD, MODEL
from tests.triton.proxy import HAPROXY, proxy

pytestmark = [
    pytest.mark.triton,
    pytest.mark.skipif(HAPROXY is None, reason="HAProxy is not installed: tests/system-packages.sh does it"),
]

NAME = "triton.test"
KEY, TOKEN = "admin-s3cret", "t0ken-s3cret"


@dataclass(frozen=True)
class Secured:
    """One Triton, by its two encrypted addresses, and what each wants to see."""

    repository: Path
    urls: Mapping[str, str]
    access: Mapping[str, Access]
    stranger: Path  # a certificate authority that signed nothing here


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    build_repository(folder / "models", {MODEL: {1: {}, GOOD: {}}})
    ours, strangers = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(folder / "ca.pem")
    strangers.cert_pem.write_to_path(folder / "stranger.pem")
    certificate, client = ours.issue_cert(NAME), ours.issue_cert("operator.test")
    certificate.private_key_pem.write_to_path(folder / "server.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "server.pem")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    client.private_key_pem.write_to_path(folder / "client.key")
    client.cert_chain_pems[0].write_to_path(folder / "client.pem")
    arguments = [
        "--grpc-use-ssl=1",
        "--grpc-use-ssl-mutual=1",
        f"--grpc-server-cert={folder / 'server.pem'}",
        f"--grpc-server-key={folder / 'server.key'}",
        f"--grpc-root-cert={folder / 'ca.pem'}",
        f"--grpc-restricted-protocol=health,model-repository:admin-key={KEY}",
        f"--http-restricted-api=model-repository:admin-key={KEY}",
    ]
    tls = Access({}, folder / "ca.pem", folder / "client.pem", folder / "client.key", NAME)
    admin = {"admin-key": KEY, "triton-grpc-protocol-admin-key": KEY}
    rules = f'http-request deny deny_status 401 unless {{ req.hdr(Authorization) "Bearer {TOKEN}" }}'
    bind = f"ssl crt {folder / 'both.pem'} ca-file {folder / 'ca.pem'} verify required"
    with EmbeddedServer(folder / "models", folder / "log", arguments=arguments) as server:
        server.start()
        with proxy(folder, server.http_url.removeprefix("http://"), bind=bind, rules=rules) as port:
            yield Secured(
                folder / "models",
                {"grpcs": server.grpc_url.replace("grpc", "grpcs"), "https": f"https://127.0.0.1:{port}"},
                {
                    "grpcs": replace(tls, headers=admin),
                    "https": replace(tls, headers={**admin, "Authorization": f"Bearer {TOKEN}"}),
                },
                folder / "stranger.pem",
            )


@pytest.fixture(params=["grpcs", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_versions_are_set_through_tls_with_client_certificate_and_headers(secured: Secured, scheme: str) -> None:
    with Control(secured.urls[scheme], secured.access[scheme]) as control:
        assert control.set_versions(MODEL, [1, GOOD], repository=secured.repository).after == (1, GOOD)
        assert control.probe(MODEL, GOOD).version == GOOD
        assert control.set_versions(MODEL, [1]).after == (1,)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ca": None}, "its certificate is not trusted: "),
        ({"server_name": None}, "Hostname Verification|not trusted: IP address mismatch"),
        ({"cert": None, "key": None}, "(?i)client certificate|certificate required"),
    ],
)
def test_who_is_not_trusted_or_does_not_trust_gets_one_line(
    secured: Secured, scheme: str, change: dict[str, None], words: str
) -> None:
    if "ca" in change:
        change = {"ca": secured.stranger}
    access = replace(secured.access[scheme], **change)
    with Control(secured.urls[scheme], access) as control, pytest.raises(Unreachable, match=words) as caught:
        control.live()
    assert_one_secret_line(caught.value, secured.urls[scheme])


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, "it asks for the header '{name}', which was not given"),
        ({"{name}": "wr0ng-value"}, "it asks for the header '{name}', and does not accept the value that it was given"),
    ],
)
def test_the_header_of_a_restricted_protocol_is_named(
    secured: Secured, scheme: str, headers: dict[str, str], words: str
) -> None:
    name = {"grpcs": "triton-grpc-protocol-admin-key", "https": "admin-key"}[scheme]
    kept = {key: value for key, value in secured.access[scheme].headers.items() if key == "Authorization"}
    given = {**kept, **{key.format(name=name): value for key, value in headers.items()}}
    access = replace(secured.access[scheme], headers=given)
    with (
        Control(secured.urls[scheme], access) as control,
        pytest.raises(Refused, match=words.format(name=name)) as caught,
    ):
        control.index()
    assert_one_secret_line(caught.value, secured.urls[scheme])
    assert "wr0ng" not in str(caught.value)


def test_a_token_that_the_proxy_does_not_know(secured: Secured) -> None:
    access = replace(secured.access["https"], headers={"Authorization": "Bearer wr0ng-value"})
    with (
        Control(secured.urls["https"], access) as control,
        pytest.raises(Refused, match="does not let us in, it wants other credentials: HTTP 401 on /v2/health/live"),
    ):
        control.live()


def test_a_fleet_by_ip_shows_the_certificate_of_its_name(secured: Secured) -> None:
    port = secured.urls["https"].rpartition(":")[2]
    fleet = f"https://{NAME}:{port}"
    urls = addresses(fleet, lambda host, _: ["127.0.0.2", "127.0.0.1"] if host == NAME else [])
    assert urls == (f"https://127.0.0.1:{port}", f"https://127.0.0.2:{port}")
    access = named(replace(secured.access["https"], server_name=None), fleet)
    for url in urls:
        with Control(url, access) as control:
            assert control.live()


def assert_one_secret_line(error: CanaryError, url: str) -> None:
    words = str(error)
    assert words.startswith(f"{url}: ")
    assert "\n" not in words
    assert "s3cret" not in words
