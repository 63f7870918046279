"""The commands of `swamp worker`, one file each; the path is the words typed."""
