"""The commands of `swamp repo`, one file each; the path is the words typed."""
