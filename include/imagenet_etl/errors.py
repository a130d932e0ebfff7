"""The error tree: every failure says what it is about, what was expected and found, and what to do.

::

    EtlError
    ├── TerminalError                 retrying cannot help; a person must act
    │   ├── ConfigError               a setting is out of its bounds
    │   ├── SourceError               what the source of an archive did
    │   │   ├── AuthenticationRequired
    │   │   ├── SourceNotFound
    │   │   ├── SourceChanged
    │   │   ├── RedirectRefused
    │   │   └── ChecksumMismatch
    │   ├── ArchiveError              what lies in an archive
    │   │   ├── BadArchive
    │   │   ├── UnsafeMember
    │   │   ├── UnexpectedMember
    │   │   ├── CountMismatch
    │   │   └── ArchiveChanged
    │   ├── LabelError                labels that contradict the images
    │   ├── TooManyBadImages          the quarantine budget is spent
    │   ├── RecordError               a record or list that breaks its format
    │   ├── StorageError              the place where data is kept
    │   │   ├── NotEnoughSpace
    │   │   ├── NotWritable
    │   │   ├── KeyExists
    │   │   └── SchemaTooNew
    │   ├── StageNotDone              an earlier stage has no valid receipt
    │   ├── AlreadyRunning            another run owns this dataset version
    │   ├── VersionConflict           the version's name is taken by other content
    │   ├── DatasetDamaged            published bytes differ from their manifest
    │   └── CloudError                AWS refuses, and will refuse again
    │       ├── AccessDenied
    │       ├── CloudNotFound
    │       ├── ClockSkewed
    │       ├── ObjectArchived        an object is to be restored from an archive class first
    │       ├── BackupConflict
    │       ├── BackupIncomplete      the commit mark is missing, or names what is not there
    │       ├── SnapshotFailed
    │       ├── SharingRefused        public, or under a key that others cannot use
    │       ├── WrongVolume           not what lies under the data folder
    │       ├── VolumeFailed
    │       ├── FreezeFailed
    │       └── CommandFailed         what an instance was told to do
    └── TransientError                the same call may succeed later
        ├── SourceUnavailable
        ├── SourceBusy                another run is downloading this archive
        ├── WorkerDied
        ├── WorkerStalled
        ├── LeaseLost
        ├── StillPending              ask again later; nothing failed
        └── CloudUnavailable

Three stand apart: ``BadImage`` condemns one image to quarantine and never leaves the packer;
``NothingToDo`` says that an optional stage was not asked for; ``Cancelled`` ends everything.
"""

from __future__ import annotations

from typing import Any, ClassVar


class EtlError(Exception):
    """Name the thing that failed, what was expected of it, what was found, and the remedy.

    Args:
        what: The thing and its trouble, for example ``"val_annotations.txt has no line for x"``.
        expected: What should have been there; empty when ``what`` already says it.
        found: What was there instead.
        remedy: What the reader can do about it.
    """

    _fields: ClassVar[tuple[str, ...]] = ("what", "expected", "found", "remedy")

    def __init__(
        self, what: str, *, expected: object = "", found: object = "", remedy: str = ""
    ) -> None:
        self.what = what
        self.expected = str(expected)
        self.found = str(found)
        self.remedy = remedy
        super().__init__(what)

    def __str__(self) -> str:
        text = self.what
        if self.expected:
            text += f": expected {self.expected}"
            text += f", found {self.found}" if self.found else ""
        elif self.found:
            text += f": found {self.found}"
        # Names from archives end up here; escaping keeps one error on one line of a log.
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
        return f"{text}. {self.remedy}" if self.remedy else text

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON, to cross a process boundary."""
        return {"type": type(self).__name__} | {k: getattr(self, k) for k in self._fields}

    @staticmethod
    def from_dict(fields: dict[str, Any]) -> EtlError:
        """Rebuild the error that ``to_dict`` described; unknown types become ``TerminalError``."""
        kind = _by_name(EtlError).get(fields["type"], TerminalError)
        return kind(**{k: v for k, v in fields.items() if k in kind._fields})


def _by_name(root: type[EtlError]) -> dict[str, type[EtlError]]:
    found = {root.__name__: root}
    for child in root.__subclasses__():
        found |= _by_name(child)
    return found


class TerminalError(EtlError):
    """Retrying cannot help: a person has to change something first."""


class TransientError(EtlError):
    """The same call may succeed later; Airflow retries it, the command line exits with 3."""


class ConfigError(TerminalError):
    """A setting is missing, malformed or out of its bounds."""


class SourceError(TerminalError):
    """The source of an archive answered with something that cannot be used."""


class AuthenticationRequired(SourceError):
    """The server wants a login, or sent its login page in the archive's place."""


class SourceNotFound(SourceError):
    """No archive at that path or URL."""


class SourceChanged(SourceError):
    """The remote file changed while it was being downloaded, and changed again on the restart."""


class RedirectRefused(SourceError):
    """The server redirects somewhere a download must not go."""


class ChecksumMismatch(SourceError):
    """The bytes are not the published ones: size or digest differ, even after a clean retry."""

    @property
    def actual(self) -> str:
        """The digest or size that was found."""
        return self.found


class ArchiveError(TerminalError):
    """The content of an archive cannot be accepted."""


class BadArchive(ArchiveError):
    """The archive is truncated or breaks its format."""


class UnsafeMember(ArchiveError):
    """A member is a link or device, is encrypted, escapes the archive, or is far too large."""


class UnexpectedMember(ArchiveError):
    """A member does not belong to the dataset's layout, or appears twice."""


class CountMismatch(ArchiveError):
    """The archive holds another number of images or classes than the published one."""


class ArchiveChanged(ArchiveError):
    """The archive's size, time or content is no longer what the index was made from."""


class LabelError(TerminalError):
    """Labels and images contradict each other."""


class TooManyBadImages(TerminalError):
    """More images had to be quarantined than the budget allows."""


class RecordError(TerminalError):
    """A record or a list file does not follow its format."""


class StorageError(TerminalError):
    """The place where data is kept refuses."""


class NotEnoughSpace(StorageError):
    """The file system lacks the bytes or inodes, or a write found it full."""


class NotWritable(StorageError):
    """A folder is missing, is read-only, or cannot do what safe publishing needs."""


class KeyExists(StorageError):
    """Something already bears the name; publishing never replaces."""


class SchemaTooNew(StorageError):
    """A file was written by a newer version of this project."""


class StageNotDone(TerminalError):
    """A stage was asked for before the one it builds on has a valid receipt."""


class AlreadyRunning(TerminalError):
    """Another live run owns this dataset version."""


class VersionConflict(TerminalError):
    """A published version of that name holds something else."""


class DatasetDamaged(TerminalError):
    """A published or packed file no longer has the size or digest that was recorded."""


class CloudError(TerminalError):
    """AWS refuses the call, and would refuse it again."""


class AccessDenied(CloudError):
    """The credentials do not allow the action."""


class CloudNotFound(CloudError):
    """A bucket, volume or snapshot does not exist."""


class ClockSkewed(CloudError):
    """This machine's clock is too far off for AWS to accept its signatures."""


class ObjectArchived(CloudError):
    """An object lies in an archive class, from which it must be restored before it can be read."""


class BackupConflict(CloudError):
    """The bucket holds something else under a key of this version."""


class SnapshotFailed(CloudError):
    """The snapshot ended in the state ``error``, or did not finish before its deadline."""


class BackupIncomplete(CloudError):
    """A backup lacks its commit mark, or an object that the mark names."""


class SharingRefused(CloudError):
    """The snapshot must not, or cannot, be shared; no call was made."""


class WrongVolume(CloudError):
    """The volume is not the one under the data folder, or is none that EBS can snapshot."""


class VolumeFailed(CloudError):
    """A volume or its attachment ended in an error, or did not get ready before its deadline."""


class FreezeFailed(CloudError):
    """The file system could not be frozen, or was thawed too early, so the snapshot is unusable."""


class CommandFailed(CloudError):
    """A command on an instance failed, or did not end before its deadline."""


class SourceUnavailable(TransientError):
    """The server cannot be reached, stalls, or answers with 429 or 5xx beyond the retry budget."""


class SourceBusy(TransientError):
    """Another run is still downloading the archive this run waits for."""


class WorkerDied(TransientError):
    """A worker process ended without an answer, for example killed for its memory."""


class WorkerStalled(TransientError):
    """A worker process has reported nothing for too long."""


class LeaseLost(TransientError):
    """Another run or a newer try took over what this one was working on."""


class StillPending(TransientError):
    """Something is under way, at AWS or in a task whose time is up; ask again later.

    ``retry_after_s`` says for how long a server wants to be left alone until then.
    """

    _fields = (*EtlError._fields, "retry_after_s")

    def __init__(self, what: str, *, retry_after_s: float = 0.0, **rest: Any) -> None:
        super().__init__(what, **rest)
        self.retry_after_s = retry_after_s


class CloudUnavailable(TransientError):
    """AWS throttles, times out or fails beyond the client's own retries."""


class BadImage(Exception):
    """One image cannot be packed; ``reason`` goes to quarantine.tsv."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class NothingToDo(Exception):
    """An optional stage was not asked for; the message says which setting would ask for it."""


class Cancelled(BaseException):
    """The run was asked to stop; what was finished stays and is used by the next run.

    A signal handler raises it at any point, so it is no ``Exception``: nothing that handles other
    trouble may take it for that.
    """
