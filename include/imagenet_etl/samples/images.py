"""Where the images of a sample come from: a folder, a tar, or thin air."""

from __future__ import annotations

import io
import random
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image, ImageDraw

from imagenet_etl.datasets.base import WNID
from imagenet_etl.errors import ConfigError, KeyExists
from imagenet_etl.files import make_folders, publish_file, typed_os_errors

_SUFFIXES = {".jpeg", ".jpg"}


@dataclass(frozen=True)
class SampleSize:
    """How large a sample is.

    Attributes:
        classes: Number of classes.
        train: Training images a class.
        val: Validation images a class.
        test: Unlabelled images in all.

    Raises:
        ConfigError: A number is too small to make a dataset.
    """

    classes: int = 20
    train: int = 20
    val: int = 4
    test: int = 20

    def __post_init__(self) -> None:
        if min(self.classes, self.train, self.val) < 1 or self.test < 0:
            raise ConfigError(f"sample size {self}", expected="1 or more of each; test 0 or more")

    @property
    def labelled(self) -> int:
        """How many distinct images the labelled splits need."""
        return self.classes * (self.train + self.val)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a name to write to; after the block, and only then, the file bears its own name.

    Raises:
        KeyExists: It is there already.
        NotWritable, NotEnoughSpace: It cannot be written.
    """
    with typed_os_errors(str(path)):
        if path.exists():
            raise KeyExists(f"{path} exists already", remedy="Remove it, or choose another name")
        make_folders(path.absolute().parent)
        with tempfile.TemporaryDirectory(dir=path.absolute().parent) as folder:
            staged = Path(folder) / path.name
            yield staged
            publish_file(staged, path.absolute())


@dataclass(frozen=True)
class SampleImages:
    """JPEG files for a sample, and the class folders they were found in."""

    files: list[bytes]
    wnids: list[str]


def sample_images(source: Path | None, count: int, classes: int, edge: int) -> SampleImages:
    """Return ``count`` distinct JPEGs, cropped and scaled to ``edge`` x ``edge`` pixels.

    Classes of a sample are for show: images are dealt out without regard to what is on them.

    Args:
        source: A folder or tar of JPEGs; None to generate images.
        count: How many are needed.
        classes: How many class ids are needed.
        edge: Pixels.

    Raises:
        ConfigError: The source is missing or holds too few images.
    """
    if source is None:
        wnids = [f"n{number:08d}" for number in range(1, classes + 1)]
        return SampleImages([generated_jpeg(n, edge) for n in range(count)], wnids)
    if not source.exists():
        raise ConfigError(
            f"--images {source}", expected="a folder or tar of JPEGs", found="nothing"
        )
    found: list[tuple[str, bytes]] = []
    for name, data in _read_source(source):
        if len(found) == count:
            break
        try:
            found.append((name, _squared(data, edge)))
        except OSError as error:
            raise ConfigError(
                f"--images {source}: {name} cannot be decoded", remedy="Leave it out"
            ) from error
    if len(found) < count:
        raise ConfigError(
            f"--images {source} holds too few JPEGs",
            expected=count,
            found=len(found),
            remedy="Lower --classes, --train, --val or --test",
        )
    folders = sorted({PurePosixPath(name).parent.name for name, _ in found})
    wnids = [name for name in folders if WNID.fullmatch(name)]
    wnids += [f"n{number:08d}" for number in range(1, classes + 1)]
    return SampleImages([data for _, data in found], list(dict.fromkeys(wnids))[:classes])


def _read_source(source: Path) -> Iterator[tuple[str, bytes]]:
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.suffix.lower() in _SUFFIXES:
                yield path.relative_to(source).as_posix(), path.read_bytes()
        return
    try:
        with tarfile.open(source) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isreg() else None
                if file is not None and PurePosixPath(member.name).suffix.lower() in _SUFFIXES:
                    yield member.name, file.read()
    except tarfile.TarError as error:
        raise ConfigError(
            f"--images {source}", expected="a folder or tar of JPEGs", found=error
        ) from error


def _squared(data: bytes, edge: int) -> bytes:
    with Image.open(io.BytesIO(data)) as opened:
        image = opened.convert("RGB")
    side = min(image.size)
    left, upper = (image.width - side) // 2, (image.height - side) // 2
    box = (left, upper, left + side, upper + side)
    return _jpeg(image.resize((edge, edge), Image.Resampling.BICUBIC, box=box))


def generated_jpeg(seed: int, edge: int) -> bytes:
    """Return a JPEG of overlapping coloured ellipses that no other seed gives."""
    rng = random.Random(seed)
    image = Image.new("RGB", (edge, edge), tuple(rng.randrange(256) for _ in range(3)))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = rng.randrange(edge), rng.randrange(edge)
        w, h = rng.randrange(4, edge), rng.randrange(4, edge)
        draw.ellipse((x, y, x + w, y + h), tuple(rng.randrange(256) for _ in range(3)))
    return _jpeg(image)


def _jpeg(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return out.getvalue()
