"""Where the images of a sample come from: a folder, a tar, or thin air."""

from __future__ import annotations

import io
import random
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from PIL import Image, ImageDraw

from imagenet_etl.datasets.base import WNID
from imagenet_etl.errors import ConfigError, KeyExists
from imagenet_etl.files import make_folders, publish_file, publish_folder, typed_os_errors

_SUFFIXES = {".jpeg", ".jpg"}
_EDGES = (300, 600)


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
    with _staged(path) as staged:
        yield staged
        publish_file(staged, path.absolute())


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to fill; after the block, and only then, it bears its own name.

    Raises:
        KeyExists: It is there already.
        NotWritable, NotEnoughSpace: It cannot be written.
    """
    with _staged(path) as staged:
        staged.mkdir()
        yield staged
        publish_folder(staged, path.absolute())


@contextmanager
def _staged(path: Path) -> Iterator[Path]:
    with typed_os_errors(str(path)):
        if path.exists():
            raise KeyExists(f"{path} exists already", remedy="Remove it, or choose another name")
        make_folders(path.absolute().parent)
        with tempfile.TemporaryDirectory(dir=path.absolute().parent) as folder:
            yield Path(folder) / path.name


@dataclass(frozen=True)
class SampleImages:
    """JPEG files for a sample, made one by one as they are taken, and class ids for it."""

    files: Iterator[bytes]
    wnids: list[str]


def sample_images(
    source: Path | None, count: int, classes: int, edge: int | None = None
) -> SampleImages:
    """Return ``count`` distinct JPEGs, and the ids of the class folders they were found in.

    Classes of a sample are for show: images are dealt out without regard to what is on them.

    Args:
        source: A folder or tar of JPEGs; None to generate images.
        count: How many are needed.
        classes: How many class ids are needed.
        edge: Pixels to crop and scale images to, both ways; None to take files as they are, and to
            generate some of 300 to 600 pixels an edge.

    Raises:
        ConfigError: The source is missing or holds too few images.
    """
    made_up = [f"n{number:08d}" for number in range(1, classes + 1)]
    if source is None:
        return SampleImages((_generated(seed, edge) for seed in range(count)), made_up)
    if not source.exists():
        raise ConfigError(
            f"--images {source}", expected="a folder or tar of JPEGs", found="nothing"
        )
    names = [name for name, _ in islice(_read_source(source), count)]
    if len(names) < count:
        raise ConfigError(
            f"--images {source} holds too few JPEGs",
            expected=count,
            found=len(names),
            remedy="Lower --classes, --train, --val or --test",
        )
    folders = sorted({PurePosixPath(name).parent.name for name in names})
    wnids = [name for name in folders if WNID.fullmatch(name)] + made_up
    return SampleImages(_decodable(source, count, edge), list(dict.fromkeys(wnids))[:classes])


def _decodable(source: Path, count: int, edge: int | None) -> Iterator[bytes]:
    for name, read in islice(_read_source(source), count):
        data = read()
        try:
            with Image.open(io.BytesIO(data)) as image:
                yield _squared(image, edge) if edge else data
        except OSError as error:
            raise ConfigError(
                f"--images {source}: {name} cannot be decoded", remedy="Leave it out"
            ) from error


def _read_source(source: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield each JPEG's name, and what reads it before the next one is asked for."""
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.suffix.lower() in _SUFFIXES:
                yield path.relative_to(source).as_posix(), path.read_bytes
        return
    try:
        with tarfile.open(source) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isreg() else None
                if file is not None and PurePosixPath(member.name).suffix.lower() in _SUFFIXES:
                    yield member.name, file.read
    except tarfile.TarError as error:
        raise ConfigError(
            f"--images {source}", expected="a folder or tar of JPEGs", found=error
        ) from error


def _squared(opened: Image.Image, edge: int) -> bytes:
    image = opened.convert("RGB")
    side = min(image.size)
    left, upper = (image.width - side) // 2, (image.height - side) // 2
    box = (left, upper, left + side, upper + side)
    return _jpeg(image.resize((edge, edge), Image.Resampling.BICUBIC, box=box))


def _generated(seed: int, edge: int | None) -> bytes:
    if edge is not None:
        return generated_jpeg(seed, edge)
    rng = random.Random(f"size {seed}")
    return generated_jpeg(seed, rng.randint(*_EDGES), rng.randint(*_EDGES))


def generated_jpeg(seed: int, width: int, height: int | None = None) -> bytes:
    """Return a JPEG of overlapping coloured ellipses that no other seed gives.

    Args:
        seed: Decides colours and places.
        width: Pixels.
        height: Pixels; as many as ``width`` where not given.
    """
    height = height or width
    rng = random.Random(seed)
    image = Image.new("RGB", (width, height), tuple(rng.randrange(256) for _ in range(3)))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = rng.randrange(width), rng.randrange(height)
        w, h = rng.randrange(4, width), rng.randrange(4, height)
        draw.ellipse((x, y, x + w, y + h), tuple(rng.randrange(256) for _ in range(3)))
    return _jpeg(image)


def generated_thumbnail(seed: int, edge: int) -> bytes:
    """Return a JPEG of smooth colours, ten times as fast as ``generated_jpeg``.

    Args:
        seed: Decides the colours; equal pictures of other seeds are as likely as equal digests.
        edge: Pixels, both ways.
    """
    colours = random.Random(seed).randbytes(4 * 4 * 3)
    image = Image.frombytes("RGB", (4, 4), colours)
    return _jpeg(image.resize((edge, edge), Image.Resampling.BILINEAR))


def _jpeg(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return out.getvalue()
