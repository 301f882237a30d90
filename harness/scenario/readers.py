"""Who reads the memory of a server, as far as its scenario tells."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

HERE = ("127.0.0.1", "::1", "localhost")


def memory_read(processes: bool, pages: Sequence[str], urls: Sequence[str]) -> str:
    """In words: of what memory is read, or what it would take. `processes`: those of the server are known; `pages`: of
    its metrics; `urls`: where models are called.
    """
    if processes:
        return "of the GPUs (NVML), or of the server's processes where there is none"
    away = sorted({str(host) for url in urls if (host := urlsplit(url).hostname) not in HERE})
    if pages:
        return f"of the GPUs that {' and '.join(pages)} {'tell' if len(pages) > 1 else 'tells'} of"
    if not away:
        return "of the GPUs of this machine (NVML); without one nobody reads it"
    return (
        f"of {' and '.join(away)} only where that is this machine, and has a GPU (NVML); else nobody can: then give "
        "target.metrics_url, or there will be no answer"
    )
