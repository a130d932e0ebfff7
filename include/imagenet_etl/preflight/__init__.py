"""What can be known before anything is written: room on the disks, and hours of reading."""
