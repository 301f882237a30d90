"""Where models are built, stored and fetched from: S3, Artifactory, a folder.

Guarantee: a version directory appears in a model repository whole and verified, or not at all, whatever dies on the
way; and nothing that a store says or leaves out deletes anything.
"""

from harness.store.manifest import MANIFEST, Entry, Manifest
from harness.store.port import Listing, Store, StoredFile

__all__ = ["MANIFEST", "Entry", "Listing", "Manifest", "Store", "StoredFile"]
