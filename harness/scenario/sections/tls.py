"""Certificates."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, model_validator

from harness.scenario.fields import Section, Wrong, path_of
from harness.types import Tls


class TlsConfig(Section):
    """Certificates for grpcs:// and https://; without any, the system's authorities are trusted."""

    ca: str | None = Field(None, min_length=1, description="PEM file: the authorities to trust; from the file's folder")
    cert: str | None = Field(None, min_length=1, description="PEM file: the client's own certificate (mTLS)")
    key: str | None = Field(None, min_length=1, description="PEM file: its key, where cert does not hold it, too")
    server_name: str | None = Field(None, min_length=1, description="the name in the server's certificate")

    @model_validator(mode="after")
    def _whole(self) -> TlsConfig:
        if self.key and not self.cert:
            raise Wrong("a key without a certificate; give cert, too", "key")
        return self

    def seen_from(self, key: str, info: ValidationInfo) -> TlsConfig:
        """With the paths that it means, written at `key` such as "candidate.tls"."""
        files = {name: getattr(self, name) for name in ("ca", "cert", "key")}
        return self.model_copy(
            update={name: path_of(path, f"{key}.{name}", info) for name, path in files.items() if path}
        )

    def tls(self) -> Tls:
        return Tls(self.ca, self.cert, self.key, self.server_name)
