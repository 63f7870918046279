"""The commands of `swamp vault`, one file each; the path is the words typed."""
