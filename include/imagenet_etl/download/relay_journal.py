"""What is noted of a relayed download, in a small object beside the archive's key.

The parts themselves are told by ``ListParts``; the journal says whose they are.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace

from imagenet_etl.download.journal import Past, RemoteFile
from imagenet_etl.files import pretty_json
from imagenet_etl.storage import Storage

RELAY_SCHEMA = 1


@dataclass(frozen=True)
class Relayed:
    """What a journal says.

    Attributes:
        remote: What is downloaded; None if nothing is begun.
        piece_bytes: Length of a part; the last one may be shorter.
        upload: The id of the multipart upload.
        token: A random word that its object, and the archive that is copied from it, bear as
            metadata.
        digests: Of the whole, once they were checked.
        url: The masked URL.
        past: What came before.
    """

    remote: RemoteFile | None = None
    piece_bytes: int = 0
    upload: str = ""
    token: str = ""
    digests: dict[str, str] = field(default_factory=dict)
    url: str = ""
    past: Past = field(default_factory=Past)


class RelayLog:
    """Keeps the journal of one relayed download.

    Attributes:
        url: What the download is of, masked; empty while nobody knows.
        past: What it has been through.

    Args:
        storage: The data folder.
        key: The journal's key.
    """

    def __init__(self, storage: Storage, key: str) -> None:
        self._storage = storage
        self._key = key
        self._noted = Relayed()
        self.url = ""
        self.past = Past()

    def read(self) -> Relayed | None:
        """Return what the journal says, or None if there is none that can be used."""
        try:
            fields = json.loads(self._storage.read(self._key) or b"")
            if fields.pop("schema_version") != RELAY_SCHEMA:
                return None
            remote = fields.pop("remote")
            past = Past(**fields.pop("past"))
            noted = Relayed(RemoteFile(**remote) if remote else None, past=past, **fields)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        self._noted, self.url, self.past = noted, noted.url, noted.past
        return noted

    def begin(self, remote: RemoteFile, piece_bytes: int, upload: str, token: str) -> None:
        """Note an upload before its first part is sent."""
        if remote.url != self.url:
            self.url, self.past = remote.url, Past()
        self._write(Relayed(remote, piece_bytes, upload, token))

    def verified(self, remote: RemoteFile | None, digests: dict[str, str]) -> None:
        """Note that the whole is there and what it is."""
        self._write(replace(self._noted, remote=remote, digests=digests))

    def drop(self, past: Past) -> None:
        """Note that nothing is there, and what came before; without a past there is no journal."""
        self.past = past
        if past != Past():
            self._write(Relayed())
        elif self._noted != Relayed():
            self._storage.remove(self._key)
            self._noted = Relayed()

    def _write(self, noted: Relayed) -> None:
        self._noted = replace(noted, url=self.url, past=self.past)
        fields = {"schema_version": RELAY_SCHEMA} | asdict(self._noted)
        self._storage.put(self._key, pretty_json(fields))
