"""The storage seam: a folder or a bucket behind one small interface."""

from imagenet_etl.storage.base import ReadAt, Stat, Storage
from imagenet_etl.storage.local import LocalStorage
from imagenet_etl.storage.local_file import open_local

__all__ = ["LocalStorage", "ReadAt", "Stat", "Storage", "open_local"]
