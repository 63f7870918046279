"""In what order: workflows, their graphs, and the runs that execute them."""
