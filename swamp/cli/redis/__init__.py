"""The commands of `swamp redis`, one file each; the path is the words typed."""
