"""The commands of `swamp workflow`, one file each; the path is the words typed."""
