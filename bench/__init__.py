"""`make bench`: Swamp next to stock RQ and Huey, on this machine, in one run.

`docs/performance.md` explains the table.
"""
