"""The commands of `swamp data`, one file each; the path is the words typed."""
