"""One file per command; the path is the words typed. Commands are thin and print only through `swamp.output`."""
