"""Read a dataset version back and compare it with its manifest and tables."""

from imagenet_etl.check.checked import Checked
from imagenet_etl.check.files import check_tree
from imagenet_etl.check.tree import Tree

__all__ = ["Checked", "Tree", "check_tree"]
