"""Write ``meta.bin``, in which torchvision's ``ImageNet`` looks up the names of its classes.

Source: torchvision documents it as what ``torch.save`` makes of a pair: the names by wnid and the
wnid of each validation image. ``torch.save`` writes a zip of stored members below one folder: a
pickle of protocol 2 in ``data.pkl``, and members that tell of the format.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping, Sequence

_FOLDER = "meta"
_TIME = (1980, 1, 1, 0, 0, 0)
_PROTOCOL = 2
"""The only one whose opcodes ``torch.load(weights_only=True)`` knows throughout."""


def meta_bin(names: Mapping[str, str], val_wnids: Sequence[str]) -> bytes:
    """Return the file; equal content in equal order gives equal bytes.

    Args:
        names: Each class's names, separated by a comma and a space, by wnid.
        val_wnids: The wnid of each validation image, in the order of the file names.
    """
    # A pickle refers back to an object that it has seen, so equal text has to be one object.
    seen: dict[str, str] = {}
    wnid_to_classes = {
        seen.setdefault(wnid, wnid): tuple(seen.setdefault(name, name) for name in text.split(", "))
        for wnid, text in names.items()
    }
    val = [seen.setdefault(wnid, wnid) for wnid in val_wnids]
    members = {
        "data.pkl": pickle.dumps((wnid_to_classes, val), _PROTOCOL),
        "byteorder": b"little",
        "version": b"3\n",
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(f"{_FOLDER}/{name}", _TIME)
            info.create_system = 0
            archive.writestr(info, data)
    return out.getvalue()
