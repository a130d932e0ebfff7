"""Lines of /proc/self/mountinfo."""

from hypothesis import given
from hypothesis import strategies as st

from imagenet_etl.aws.ebs.mounts import Mount, parse_mounts

# The example of proc_pid_mountinfo(5), and one without optional fields.
MANUAL = """\
36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
24 27 0:22 / /sys rw,relatime - sysfs sysfs rw
"""


def test_fields_are_read() -> None:
    assert parse_mounts(MANUAL) == [
        Mount("98:0", "/mnt1", "/mnt2", "ext3", "/dev/root"),
        Mount("0:22", "/", "/sys", "sysfs", "sysfs"),
    ]


def escaped(text: str) -> str:
    """Write a path as the kernel does."""
    return "".join(f"\\{ord(c):03o}" if c in " \t\n\\" else c for c in text)


@given(st.text(st.sampled_from("ab/ \t\n\\-é1340"), min_size=1))
def test_any_path_survives(name: str) -> None:
    line = f"36 35 98:0 / /{escaped(name)} rw - ext4 /dev/{escaped(name)} rw"
    (mount,) = parse_mounts(line)
    assert (mount.point, mount.source) == (f"/{name}", f"/dev/{name}")
