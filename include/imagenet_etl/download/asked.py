"""One archive as a run asks for it: from where, what it must be, and where it is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from imagenet_etl.aws.s3_layout import backup_place
from imagenet_etl.build import Build
from imagenet_etl.datasets import ArchiveFacts
from imagenet_etl.download.login import Login
from imagenet_etl.download.login_checks import host_of
from imagenet_etl.download.marks import mark_of
from imagenet_etl.download.notes import Expected, Note, note_key_of, still_meets
from imagenet_etl.download.urls import is_s3, local_source, mask_url, split_digest
from imagenet_etl.download.wanted import Wanted
from imagenet_etl.errors import ConfigError
from imagenet_etl.files import digest_of


@dataclass(frozen=True)
class Asked:
    """What is known before anything is looked at.

    Attributes:
        facts: The archive's facts.
        source: Its path or URL.
        expected: What it must be.
        path: Where it lies on this machine; None for what has to be fetched.
        key: Under which key it is kept once it is fetched; empty for a path.
        note_key: Where the note of it is.
        mark: Stands for the query values of a URL whose content no digest proves.
        only_backup: Whether it may come from the backup alone.
        in_bucket: The ``s3://`` URI under which it is used in place, as paths are where the data
            folder is on a disk; empty for what is not.
    """

    facts: ArchiveFacts
    source: str = field(repr=False)
    expected: Expected
    path: Path | None
    key: str
    note_key: str
    mark: str = ""
    only_backup: bool = False
    in_bucket: str = ""

    @property
    def shown(self) -> str:
        """The source as it may appear in a log or a note."""
        return mask_url(self.source)

    def is_met_by(self, note: Note) -> bool:
        """Return whether what was noted, wherever the archive is now, is what is asked for."""
        return still_meets(note, self.shown, self.expected, self.mark)


def asked_for(build: Build, facts: ArchiveFacts, source: str | None = None) -> Asked:
    """Return what the settings, or a ``source`` in their place, ask for.

    An archive that nobody serves and nobody gave is asked of the backup, if there is one.

    Raises:
        ConfigError: There is no source, or none that can be read; or a path is given, and the data
            folder is in a bucket.
    """
    if source is None:
        source = build.settings.sources.get(facts.name, facts.url)
    source, sha256 = split_digest(source)
    only_backup = not source
    source = source or backup_url(build, facts.name)
    if not source:
        raise ConfigError(
            f"{facts.name} sits behind a login, so it cannot be fetched for you",
            remedy=f"Log in at {build.facts.terms_url}, download it, and pass "
            f"--source {facts.name}=PATH",
        )
    path = local_source(source)
    if path is not None:
        check_seen_by_all(build, facts.name, path)
    published = build.settings.expect == "published"
    expected = Expected(sha256=sha256)
    if published and not (path is not None and path.is_dir()):
        expected = Expected(facts.size, facts.md5, sha256 or facts.sha256)
    in_bucket = "" if build.storage.on_disk or only_backup or not is_s3(source) else source
    if path is not None or in_bucket:
        note_key = f"{build.work}/download/in-place/{digest_of(in_bucket or str(path))[:16]}.json"
        return Asked(facts, source, expected, path, "", note_key, in_bucket=in_bucket)
    folder = f"archives/{build.facts.name}"
    mark = "" if expected.is_proof else mark_of(build.storage, folder, source)
    if not published:
        # The published archive keeps its place; a sample from anywhere must not be in its way.
        folder += f"/{sha256[:12] or digest_of(mask_url(source) + mark)[:12]}"
    key = f"{folder}/{facts.name}"
    return Asked(facts, source, expected, None, key, note_key_of(key), mark, only_backup)


def check_seen_by_all(build: Build, name: str, path: Path) -> None:
    """Refuse a path where the workers share nothing but a bucket.

    Raises:
        ConfigError: The data folder is in a bucket.
    """
    if build.storage.on_disk:
        return
    target = f"s3://BUCKET/{path.name}"
    raise ConfigError(
        f"{path} is on this machine alone, and the data folder is the bucket {build.storage.url}",
        expected="a source that every worker sees: s3://, http:// or https://",
        remedy=f"Copy it with aws s3 cp {path} {target} and give --source {name}={target}, or back "
        "its archives up from a machine whose data folder is on a disk",
    )


def backup_url(build: Build, name: str) -> str:
    """Return below what the backup has an archive's marks; nothing when it is not to be asked.

    It is the source of an archive that the backup alone has: which of them is told by its digest.
    """
    settings = build.settings
    if not (settings.s3_uri and settings.from_backup):
        return ""
    place = backup_place(settings.s3_uri, build.facts.name)
    return place.uri(place.archive_marks(name))


def source_marks(build: Build) -> dict[str, str]:
    """Return what the query values of the sources stand for, where they decide, by archive name.

    Raises:
        ConfigError: A source cannot be read.
    """
    sources = build.settings.sources.items()
    # Only a query has a mark: paths and plain URLs need no closer look.
    asked = {
        name: asked_for(build, build.facts.archive(name), s) for name, s in sources if "?" in s
    }
    return {name: item.mark for name, item in asked.items() if item.mark}


def wanted_from(build: Build, asked: Asked) -> Wanted:
    """Return the request for an archive that is not on this machine, with the login it may carry.

    Raises:
        ConfigError: Its keys would be sent unencrypted, or cannot be sent at all.
    """
    facts = asked.facts
    wanted = Wanted(facts.name, asked.source, facts.kind, asked.expected.size)
    if wanted.is_s3:
        return wanted
    login = build.login()
    return wanted.with_login(login.for_host(_publishers_host(build, facts, login)))


def _publishers_host(build: Build, facts: ArchiveFacts, login: Login) -> str:
    """Return the host that a login without one is for: none where the publisher has no HTTPS."""
    urls = (facts.url, *(archive.url for archive in build.facts.archives))
    schemes = ("https://", "http://") if login.insecure else ("https://",)
    return next((host_of(url) for url in urls if url.startswith(schemes)), "")
