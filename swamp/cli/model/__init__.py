"""The commands of `swamp model`, one file each; the path is the words typed."""
