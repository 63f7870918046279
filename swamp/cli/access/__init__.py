"""The commands of `swamp access`, one file each; the path is the words typed."""
