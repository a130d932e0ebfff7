"""EBS: snapshots, their copies and shares, volumes and where they are attached."""
