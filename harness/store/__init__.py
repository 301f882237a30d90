"""Where models are built, stored and fetched from: S3, Artifactory, a folder.

Guarantee: a version directory appears in a model repository whole and verified, or not at all, whatever dies on the
way; and nothing that a store says or leaves out deletes anything.
"""

from harness.store.fetch import Progress
from harness.store.folder import FolderStore
from harness.store.git import GitFile, GitRepository
from harness.store.manifest import MANIFEST, Entry, Manifest
from harness.store.open import open_store
from harness.store.place import Merge
from harness.store.port import Listing, Store, StoredFile
from harness.store.publish import publish
from harness.store.syncing import SyncResult, sync

__all__ = [
    "MANIFEST",
    "Entry",
    "FolderStore",
    "GitFile",
    "GitRepository",
    "Listing",
    "Manifest",
    "Merge",
    "Progress",
    "Store",
    "StoredFile",
    "SyncResult",
    "open_store",
    "publish",
    "sync",
]
