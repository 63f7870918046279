"""What can be done: model types, and the named, configured instances of them that a repository defines.

A model is not a table of a database: it is something with methods, such as a shell command.
"""
