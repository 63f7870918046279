"""The rows of the table, each with its contenders. A contender starts everything anew for every repetition."""
