"""What runs in the environments of the peers: their workers' tasks, and what fills and empties their queues.

Nothing here imports Swamp.
"""
