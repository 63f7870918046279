"""What came out: versioned data, and the journal of runs that produced it."""
